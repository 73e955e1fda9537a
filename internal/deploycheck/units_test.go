package deploycheck

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestUnits: systemd reads them without a complaint, and finds them well shut in.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("REPARTO_TEST_NEED"), ","), "systemd-analyze") {
			t.Fatal("systemd-analyze is not there, and REPARTO_TEST_NEED says that it must be")
		}
		t.Skip("SKIPPED: systemd-analyze is not installed")
	}
	units, err := filepath.Glob(deploy + "systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatal(units, err)
	}
	for _, unit := range units {
		raw, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		// The programs need not be installed for this.
		text := strings.NewReplacer("/usr/local/bin/balancer", "/bin/true", "/usr/local/bin/worker", "/bin/true", "/usr/local/bin/adapter", "/bin/true").Replace(string(raw))
		if text == string(raw) || !strings.Contains(text, "ExecReload=/bin/kill -HUP $MAINPID") {
			t.Errorf("%s starts none of the programs, or can't be reloaded", unit)
		}
		file := filepath.Join(t.TempDir(), filepath.Base(unit))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput(); err != nil || strings.Contains(string(out), filepath.Base(unit)) {
			t.Errorf("verify %s: %v\n%s", unit, err, out)
		}
		// 20 is an exposure of 2.0 of 10.
		if out, err := exec.Command(analyze, "security", "--offline=yes", "--threshold=20", file).CombinedOutput(); err != nil {
			t.Errorf("security %s: %v\n%s", unit, err, out)
		}
	}
}
