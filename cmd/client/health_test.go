package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"reparto/internal/cli"
)

func TestHealth(t *testing.T) {
	b := startBalancer(t, nil)
	ask := func(args ...string) (int, string) {
		var out bytes.Buffer
		code := run(context.Background(), append([]string{"health", "--connect-timeout", "300ms", "--balancer", b.address}, args...), strings.NewReader(""), &out, &out)
		return code, out.String()
	}
	if code, said := ask(); code != cli.OK || said != "SERVING\n" {
		t.Errorf("exit %d, %q", code, said)
	}
	if code, said := ask("--service", "reparto.v1.TaskService/Enqueue", "--output", "json"); code != cli.OK || said != `{"status":"SERVING"}`+"\n" {
		t.Errorf("exit %d, %q", code, said)
	}
	if code, said := ask("--service", "nobody"); code != cli.Failed {
		t.Errorf("exit %d, %q of a service that there is not", code, said)
	}
	b.stop()
	if code, said := ask(); code != cli.NoConnection {
		t.Errorf("exit %d, %q of nobody", code, said)
	}
}
