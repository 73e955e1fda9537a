// Package legacy serves programs that speak the old text protocol, as they are:
// clients on one port, workers on another. To the balancer it is a gRPC client
// like any other, so that text clients reach gRPC workers, gRPC clients reach
// text workers, and text reaches text.
//
//	a, err := legacy.Listen(legacy.Options{ClientAddress: "localhost:8888", WorkerAddress: "localhost:8889"})
//	…
//	err = a.Serve(ctx, conn) // until ctx ends; then it drains
//
// A line `TASK|id|data` becomes a task of the function Options.Function with
// data as its payload, and its outcome becomes `RESULT|id|data`, or
// `RESULT|id|ERROR: message`. A text worker that says `REGISTER|id` becomes a
// worker of that function with one slot.
//
// A result or payload travels in the last field of a line. Line breaks at its
// end are left out, as white space around a message never counted; one within,
// or what is not UTF-8, can't be sent, and the task fails with a message that
// says so, rather than arriving as something else.
package legacy
