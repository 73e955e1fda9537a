package legacy

import (
	"strings"
	"testing"
	"time"
)

func TestOptionsDefaults(t *testing.T) {
	o, err := Options{ClientAddress: "localhost:8888"}.validate()
	if err != nil {
		t.Fatal(err)
	}
	if o.Function != "sum" || o.MaxLine != 1<<20 || o.Quiet != 50*time.Millisecond || o.AckGap != 100*time.Millisecond ||
		o.TaskTimeout != 24*time.Hour || o.WorkerTaskTimeout != 0 || o.Log == nil {
		t.Errorf("%+v", o)
	}
}

func TestOptionsEdges(t *testing.T) {
	const ms = time.Millisecond
	base := Options{WorkerAddress: "localhost:8889"}
	for name, x := range map[string]struct {
		good, bad func(*Options)
		says      string
	}{
		"addresses":  {func(o *Options) {}, func(o *Options) { o.WorkerAddress = "" }, "neither ClientAddress nor WorkerAddress"},
		"address":    {func(o *Options) { o.ClientAddress = ":1" }, func(o *Options) { o.ClientAddress = "8888" }, `ClientAddress "8888"`},
		"function":   {func(o *Options) { o.Function = strings.Repeat("a", 128) }, func(o *Options) { o.Function = strings.Repeat("a", 129) }, "function"},
		"characters": {func(o *Options) { o.Function = "/pkg.Service/Method" }, func(o *Options) { o.Function = "a b" }, `"a b"`},
		"line":       {func(o *Options) { o.MaxLine = 64 }, func(o *Options) { o.MaxLine = 63 }, "MaxLine is 63"},
		"conns":      {func(o *Options) { o.MaxConnections = 1 }, func(o *Options) { o.MaxConnections = -1 }, "MaxConnections is -1"},
		"in flight":  {func(o *Options) { o.MaxInFlight = 1 }, func(o *Options) { o.MaxInFlight = -1 }, "MaxInFlight is -1"},
		"bytes":      {func(o *Options) { o.MaxInFlightBytes = 1 }, func(o *Options) { o.MaxInFlightBytes = -1 }, "MaxInFlightBytes is -1"},
		"quiet":      {func(o *Options) { o.Quiet = ms }, func(o *Options) { o.Quiet = ms - 1 }, "Quiet is"},
		"message":    {func(o *Options) { o.MessageTimeout = ms }, func(o *Options) { o.MessageTimeout = -1 }, "MessageTimeout is"},
		"write":      {func(o *Options) { o.WriteTimeout = ms }, func(o *Options) { o.WriteTimeout = -1 }, "WriteTimeout is"},
		"task":       {func(o *Options) { o.TaskTimeout = 24 * time.Hour }, func(o *Options) { o.TaskTimeout = 24*time.Hour + 1 }, "at most 24h"},
		"connect":    {func(o *Options) { o.ConnectTimeout = ms }, func(o *Options) { o.ConnectTimeout = -1 }, "ConnectTimeout is"},
		"worker":     {func(o *Options) { o.WorkerTaskTimeout = ms }, func(o *Options) { o.WorkerTaskTimeout = -1 }, "WorkerTaskTimeout is"},
		"id":         {func(o *Options) { o.ID = strings.Repeat("i", 128) }, func(o *Options) { o.ID = strings.Repeat("i", 129) }, "the ID"},
		"id's name":  {func(o *Options) { o.ID = "web1:8888" }, func(o *Options) { o.ID = "web 1" }, `"web 1"`},
		"peers":      {func(o *Options) { o.MaxPeers = 10_000 }, func(o *Options) { o.MaxPeers = 10_001 }, "MaxPeers is 10001"},
		"few peers":  {func(o *Options) { o.MaxPeers = 1 }, func(o *Options) { o.MaxPeers = -1 }, "MaxPeers is -1"},
		"report":     {func(o *Options) { o.ReportInterval = 30 * time.Second }, func(o *Options) { o.ReportInterval = 30*time.Second + 1 }, "ReportInterval is"},
		"none": {func(o *Options) {
			o.AckGap, o.ResultGap, o.KeepAlive, o.DrainTimeout, o.ReportInterval = -1, -1, -1, -1, -1
		},
			func(o *Options) { o.AckGap = 1 }, "AckGap is 1ns"},
	} {
		good, bad := base, base
		x.good(&good)
		x.bad(&bad)
		if _, err := good.validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := bad.validate(); err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: got %v, want %q", name, err, x.says)
		}
	}
}
