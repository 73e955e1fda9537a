package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"reparto/internal/rpc"
)

// others is the value of the label function for all that are not counted each by
// itself. No function has this name: it would begin with a letter or a digit.
const others = "_other"

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("reparto_"+name, help, labels, nil)
}

var (
	queued    = describe("queued_tasks", "Tasks that wait for a worker.", "function")
	scheduled = describe("scheduled_tasks", "Tasks that wait for their time, or for the end of a backoff.", "function")
	running   = describe("running_tasks", "Tasks that a worker has.", "function")
	oldest    = describe("oldest_queued_seconds", "How long the oldest queued task has waited.", "function")
	submitted = describe("tasks_submitted_total", "Tasks accepted.", "function")
	retried   = describe("tasks_retried_total", "Attempts after the first that were given out.", "function")
	finished  = describe("tasks_finished_total", "Tasks that have their outcome.", "function", "state")
	waited    = describe("dispatch_latency_seconds", "From when a task could run to when a worker was given it.", "function")
	ran       = describe("run_seconds", "From when a worker was given a task to its answer.", "function")

	tasksRefused = describe("tasks_refused_total", "Tasks refused one by one, on streams and in batches.", "reason")
	callsRefused = describe("calls_refused_total", "Calls refused, those of Submit among them.", "code", "reason")

	workers   = describe("workers", "Connected workers.")
	slots     = describe("slots", "Slots of workers that are not leaving.")
	freeSlots = describe("free_slots", "Of these, those without a task.")
	heldBytes = describe("held_bytes", "Bytes of all tasks that wait or run.")
	draining  = describe("draining", "1 while the balancer is stopping, else 0.")
	storeUp   = describe("store_up", "1 while the store can be written to, else 0.")
	textPeers = describe("text_peers", "Addresses that are connected and speak the text protocol.", "kind")
	textTasks = describe("text_tasks_total", "Tasks that text clients submitted and that text workers answered.", "kind")
)

// collector reads inside and border when it is asked.
type collector struct {
	inside Inside
	border Border
}

// Describe sends nothing: which series there are depends on the functions.
func (*collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	m, info := c.inside.Measures(), c.inside.Info()
	for _, f := range m.Functions {
		name := f.Function
		if name == "" {
			name = others
		} else {
			gauge(oldest, f.OldestAge.Seconds(), name)
		}
		gauge(queued, float64(f.Queued), name)
		gauge(scheduled, float64(f.Scheduled), name)
		gauge(running, float64(f.Running), name)
		counter(submitted, float64(f.Totals.Submitted), name)
		counter(retried, float64(f.Totals.Retried), name)
		counter(finished, float64(f.Totals.Succeeded), name, "SUCCEEDED")
		counter(finished, float64(f.Totals.Failed), name, "FAILED")
		counter(finished, float64(f.Totals.Cancelled), name, "CANCELLED")
		counter(finished, float64(f.Totals.Expired), name, "EXPIRED")
		histogram(to, waited, f.Dispatch, name)
		histogram(to, ran, f.Run, name)
	}
	gauge(workers, float64(info.Sessions))
	gauge(slots, float64(m.Slots))
	gauge(freeSlots, float64(m.FreeSlots))
	gauge(heldBytes, float64(info.Bytes))
	gauge(draining, one(info.Draining))
	gauge(storeUp, one(info.StoreError == nil))

	calls, tasks := c.border.Refusals()
	for why, n := range calls {
		counter(callsRefused, float64(n), why.Code.String(), why.Reason)
	}
	for reason, n := range byReason(tasks) {
		counter(tasksRefused, float64(n), reason)
	}
	text := c.border.TextPeers()
	for kind, n := range map[string]rpc.TextPeerCount{"client": text.Clients, "worker": text.Workers} {
		gauge(textPeers, float64(n.Open), kind)
		counter(textTasks, float64(n.Tasks), kind)
	}
}

func byReason(counts map[rpc.Refused]uint64) map[string]uint64 {
	sums := map[string]uint64{}
	for why, n := range counts {
		sums[why.Reason] += n
	}
	return sums
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
