package classic

import "strings"

// The adapter for the text protocol makes ids that are unique everywhere out of
// those that its peers chose:
//
//	text.<run>.<connection>.<number>.<the client's own>
//	<the worker's own>@<remote>.<run>.<connection>
//
// Terminals showed the peers' own.

// textTaskID returns the client's own id if id was made by the adapter.
func textTaskID(id string) (own string, ok bool) {
	parts := strings.SplitN(id, ".", 5)
	if len(parts) < 5 || parts[0] != "text" || !isRun(parts[1]) || !isNumber(parts[2]) || !isNumber(parts[3]) {
		return "", false
	}
	return parts[4], true
}

// textWorkerID returns the worker's own id if id was made by the adapter.
func textWorkerID(id string) (own string, ok bool) {
	own, tail, ok := strings.Cut(id, "@")
	parts := strings.Split(tail, ".")
	if n := len(parts); !ok || n < 3 || !isRun(parts[n-2]) || !isNumber(parts[n-1]) {
		return "", false
	}
	return own, true
}

// isRepeated says whether the balancer tells what the adapter beside it tells
// too, and better: the balancer's peer is the adapter, the adapter's is the
// program that the line is about.
func (e event) isRepeated() bool {
	switch e.message {
	case "task received", "result sent":
		_, ok := textTaskID(e.get("task_id"))
		return ok
	case "task assigned", "result received", "worker connected", "worker registered":
		_, ok := textWorkerID(e.get("worker_id"))
		return ok
	}
	return false
}

func isRun(s string) bool {
	return len(s) == 8 && strings.Trim(s, "0123456789abcdef") == ""
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
