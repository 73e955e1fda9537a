package trace_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"

	"reparto/internal/dispatch"
	"reparto/internal/task"
	"reparto/internal/trace"
)

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// Only a sampled context is followed; what a client may write there instead harms
// nobody.
func TestOnlySampledContextsAreFollowed(t *testing.T) {
	b := trace.NewBalancer(sdk.NewTracerProvider())
	for header, want := range map[string]bool{
		parent:                                true,
		strings.TrimSuffix(parent, "1") + "3": true,
		strings.TrimSuffix(parent, "1") + "0": false,
		"":                                    false,
		"1":                                   false,
		strings.Repeat("1", 55):               false,
		strings.Repeat("x", 100_000):          false,
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": false,
	} {
		if got := b.Follow(&task.Task{Metadata: map[string]string{"traceparent": header}}, time.Now()) != nil; got != want {
			t.Errorf("%.60q: followed is %v", header, got)
		}
	}
}

// stateless is a sampler that passes no tracestate on.
type stateless struct{ sdk.Sampler }

func (s stateless) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	return sdk.SamplingResult{Decision: s.Sampler.ShouldSample(p).Decision}
}

// What the worker is given is the attempt's context and nothing of another span's;
// where the balancer's sampler wants no span, the client's stays.
func TestAnAssignmentNamesItsAttempt(t *testing.T) {
	for name, c := range map[string]struct {
		sampler sdk.Sampler
		state   string
		want    map[string]string // beside traceparent
		none    bool
	}{
		"a state is passed on": {sdk.AlwaysSample(), "v=1", map[string]string{"tracestate": "v=1"}, false},
		"no state":             {sdk.AlwaysSample(), "", map[string]string{}, false},
		"the state has gone":   {stateless{sdk.AlwaysSample()}, "v=1", map[string]string{"tracestate": ""}, false},
		"not sampled here":     {sdk.NeverSample(), "v=1", nil, true},
	} {
		b := trace.NewBalancer(sdk.NewTracerProvider(sdk.WithSampler(c.sampler)))
		tk := &task.Task{ID: "t", Function: "f", Metadata: map[string]string{"traceparent": parent}}
		if c.state != "" {
			tk.Metadata["tracestate"] = c.state
		}
		trail := b.Follow(tk, time.Now())
		got := trail.Assigned(dispatch.Handing{Attempt: 1, WorkerID: "w"})
		if made := got["traceparent"]; c.none != (made == "") || !c.none && (made == parent || made[:36] != parent[:36]) {
			t.Errorf("%s: the worker's parent is %q", name, made)
		}
		delete(got, "traceparent")
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: it gets %v too, want %v", name, got, c.want)
		}
		trail.Finished(&task.Outcome{State: task.Cancelled})
	}
}
