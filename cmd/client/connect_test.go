package main

import (
	"net"
	"strings"
	"testing"

	"reparto/internal/cli"
)

func TestNoConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := &balancer{address: l.Addr().String()}
	// A port that takes connections and never answers is no better.
	code, out, errs := submit(t, nobody, "", "--connect-timeout", "300ms", "sum", "1")
	if code != cli.NoConnection || out != "" || !strings.HasPrefix(errs, "client submit: no connection to the balancer at "+nobody.address+" within 300ms: ") || strings.Count(errs, "\n") != 1 {
		t.Errorf("silent: exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	l.Close()
	code, out, errs = submit(t, nobody, "", "--connect-timeout", "300ms", "sum", "1")
	if code != cli.NoConnection || out != "" || !strings.Contains(errs, "connection refused") || strings.Count(errs, "\n") != 1 || strings.Contains(errs, "desc =") {
		t.Errorf("closed: exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	code, out, errs = submit(t, nobody, "", "--connect-timeout", "300ms", "--log", "classic", "sum", "1")
	if code != cli.NoConnection || out != "[CLIENT] No se pudo conectar al balanceador. Asegúrese de que esté corriendo.\n" || errs != "" {
		t.Errorf("classic: exit code %d, stdout %q, stderr %q", code, out, errs)
	}
}
