package legacy

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func parseFlags(t *testing.T, args ...string) (Options, error) {
	t.Helper()
	var o Options
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.AddFlags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o, o.CheckFlags()
}

func TestFlagsSayWhatTheDefaultsAre(t *testing.T) {
	o, err := parseFlags(t)
	if err != nil {
		t.Fatal(err)
	}
	got, err := o.validate()
	if err != nil {
		t.Fatal(err)
	}
	want, err := Options{ClientAddress: o.ClientAddress, WorkerAddress: o.WorkerAddress}.validate()
	if err != nil {
		t.Fatal(err)
	}
	got.Log, want.Log = nil, nil
	if got != want {
		t.Errorf("without flags the options are\n%+v, without anything\n%+v", got, want)
	}
}

func TestFlagsThatAreNoneOrWrong(t *testing.T) {
	o, err := parseFlags(t, "--legacy-ack-gap", "0", "--legacy-result-gap", "0", "--legacy-keepalive", "0", "--legacy-report-interval", "0")
	if err != nil || o.ReportInterval >= 0 || o.AckGap >= 0 || o.ResultGap >= 0 || o.KeepAlive >= 0 {
		t.Errorf("0 for none became %+v, %v", o, err)
	}
	for _, flag := range []string{
		"--legacy-quiet=0", "--legacy-message-timeout=0", "--legacy-write-timeout=-1s", "--legacy-max-line=0", "--legacy-max-connections=-1",
		"--legacy-max-in-flight=0", "--legacy-max-in-flight-bytes=0", "--legacy-ack-gap=-1s", "--legacy-result-gap=-1ms", "--legacy-keepalive=-1s",
		"--legacy-report-interval=-1s", "--legacy-max-peers=0",
	} {
		name, _, _ := strings.Cut(flag, "=")
		if _, err := parseFlags(t, flag); err == nil || !strings.HasPrefix(err.Error(), name+" is ") {
			t.Errorf("%s: got %v", flag, err)
		}
	}
}
