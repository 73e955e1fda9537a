// Package metrics shows what a balancer does to Prometheus: what the dispatcher has
// counted, what the border has refused, how its calls and its store fare, and the
// process itself. No label is a task, a principal or an address, so that the number
// of series is bounded by that of functions which are counted each by itself.
package metrics

import (
	"net/http"
	"time"

	grpcprometheus "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"

	"reparto/internal/dispatch"
	"reparto/internal/rpc"
)

// Metrics are those of one balancer. Its interceptors and its store come before the
// rest of the balancer, so what that is, is told later, to Watch.
type Metrics struct {
	registry *prometheus.Registry
	calls    *grpcprometheus.ServerMetrics
	store    *prometheus.HistogramVec
}

// Build says what runs.
type Build struct{ Version, Commit, GoVersion string }

// New returns the metrics of a balancer that is about to start.
func New(b Build) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		calls: grpcprometheus.NewServerMetrics(grpcprometheus.WithServerHandlingTimeHistogram(func(o *prometheus.HistogramOpts) {
			o.NativeHistogramBucketFactor, o.NativeHistogramMaxBucketNumber = nativeFactor, nativeBuckets
		})),
		store: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "reparto_store_seconds", Help: "How long the store took, by what it was asked.",
			Buckets:                     prometheus.ExponentialBuckets(0.0001, 4, 10), // 100 µs to 26 s
			NativeHistogramBucketFactor: nativeFactor, NativeHistogramMaxBucketNumber: nativeBuckets, NativeHistogramMinResetDuration: time.Hour,
		}, []string{"operation"}),
	}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "reparto_build_info", Help: "1, with what runs as labels."},
		[]string{"version", "commit", "go_version"})
	info.WithLabelValues(b.Version, b.Commit, b.GoVersion).Set(1)
	m.registry.MustRegister(m.calls, m.store, info, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Native histograms have buckets at most a tenth wide, and so many of them.
const (
	nativeFactor  = 1.1
	nativeBuckets = 160
)

// Interceptors count calls, by method and code.
func (m *Metrics) Interceptors() ([]grpc.UnaryServerInterceptor, []grpc.StreamServerInterceptor) {
	return []grpc.UnaryServerInterceptor{m.calls.UnaryServerInterceptor()}, []grpc.StreamServerInterceptor{m.calls.StreamServerInterceptor()}
}

// Inside is where most of it is known: a dispatch.Dispatcher.
type Inside interface {
	Info() dispatch.Info
	Measures() dispatch.Measures
}

// Border is where the rest is known: an rpc.Server.
type Border interface {
	Refusals() (calls, tasks map[rpc.Refused]uint64)
	TextPeers() rpc.TextPeerCounts
}

// Watch adds what these two know. It is called once.
func (m *Metrics) Watch(inside Inside, border Border) {
	m.registry.MustRegister(&collector{inside, border})
}

// Handler serves all of it in the formats that Prometheus asks for. Native
// histograms travel in the protobuf format alone.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}
