package metrics

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"reparto/internal/balance"
	"reparto/internal/dispatch"
	"reparto/internal/rpc"
	"reparto/internal/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// all has something of everything.
type all struct{}

func (all) Info() dispatch.Info { return dispatch.Info{} }

func (all) Measures() dispatch.Measures {
	return dispatch.Measures{Functions: []dispatch.Measure{{Function: "f", Dispatch: &balance.Histogram{}, Run: &balance.Histogram{}}}}
}

func (all) Refusals() (calls, tasks map[rpc.Refused]uint64) {
	some := map[rpc.Refused]uint64{{Reason: "QUEUE_FULL"}: 1}
	return some, some
}

func (all) TextPeers() rpc.TextPeerCounts { return rpc.TextPeerCounts{} }

// TestTheDocumentedMetricsAreThose: each that is exported is in the table, and the
// other way round.
func TestTheDocumentedMetricsAreThose(t *testing.T) {
	m := New(Build{})
	m.Watch(all{}, all{})
	if _, err := m.Store(memory.New()).Get(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var exported []string
	for _, f := range families {
		if name := f.GetName(); regexp.MustCompile("^reparto_").MatchString(name) {
			exported = append(exported, name)
		}
	}
	raw, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(reparto_[a-z_]+)` \\|").FindAllStringSubmatch(string(raw), -1) {
		documented = append(documented, row[1])
	}
	slices.Sort(documented)
	if !slices.Equal(exported, documented) {
		t.Errorf("exported are\n%v\ndocumented\n%v", exported, documented)
	}
}

// TestClassicBuckets: they are cumulative and agree with the native ones to within a
// bucket of those.
func TestClassicBuckets(t *testing.T) {
	h := &balance.Histogram{Sum: 7}
	for i := range h.Counts {
		h.Counts[i] = uint64(i % 3)
	}
	to := make(chan prometheus.Metric, 1)
	histogram(to, waited, h, "f")
	var m dto.Metric
	if err := (<-to).Write(&m); err != nil {
		t.Fatal(err)
	}
	got := m.GetHistogram()
	before := uint64(0)
	for k, b := range got.GetBucket() {
		want := uint64(0)
		for i, n := range h.Counts {
			if balance.Bound(i) <= classic[k] {
				want += n
			}
		}
		if n := b.GetCumulativeCount(); b.GetUpperBound() != classic[k] || n < want || n > want+2 || n < before {
			t.Errorf("up to %g s: %d, want %d", b.GetUpperBound(), n, want)
		}
		before = b.GetCumulativeCount()
	}
	if got.GetSampleCount() < before || got.GetSampleSum() != 7 {
		t.Errorf("%d in all, %g s", got.GetSampleCount(), got.GetSampleSum())
	}
}
