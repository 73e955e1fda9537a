package cli

import "testing"

func TestCheckTarget(t *testing.T) {
	for _, target := range []string{"localhost:9090", "[::1]:9090", "10.0.0.1:1", "unix:/run/x.sock", "dns:///a:1", "passthrough://x/y"} {
		if err := CheckTarget(target); err != nil {
			t.Errorf("%q is refused: %v", target, err)
		}
	}
	for _, target := range []string{"", "localhost", ":9090", "localhost:", "::1", "a b"} {
		if CheckTarget(target) == nil {
			t.Errorf("%q is taken", target)
		}
	}
}
