// Package doctor examines the way that a client or a worker takes to a balancer,
// through whatever stands between, and says what is wrong with it and what to
// change.
//
//	report, err := doctor.Examine(ctx, doctor.Options{Target: target, Dial: dial}, print)
//
// Nothing that it does leaves a task, a worker or a pause behind: what it submits
// is refused for having no function, and the worker that it plays offers a function
// that nobody else knows and leaves again.
package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	pb "reparto/gen/reparto/v1"
)

// Status is how a check came out.
type Status string

// What a check can come out as. Skip is a check that was not made, and says why.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "FAIL"
	Skip Status = "skip"
)

// Finding is what one check has found.
type Finding struct {
	// Check names it; the names stay.
	Check  string `json:"check"`
	Status Status `json:"status"`
	// Said is what was found, for people.
	Said string `json:"said"`
	// Do is what to do about it; empty when there is nothing to be done.
	Do string `json:"do,omitempty"`
	// Values are the figures, with their units in their names.
	Values map[string]any `json:"values,omitempty"`
}

// Report is all that was found.
type Report struct {
	Findings []Finding
	// Advice has the lines of proxies to change, for what was found wrong alone.
	Advice []Advice
	// Reached says that something on the way has answered a gRPC call.
	Reached bool
}

// Failed says that a check has failed.
func (r *Report) Failed() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Status == Fail })
}

// Options of an examination. Target and Dial there must be.
type Options struct {
	// Target is the balancer's address, as gRPC takes it.
	Target string
	// Dial makes a connection of its own each time; what more says wins. It is not
	// called concurrently.
	Dial func(more ...grpc.DialOption) (*grpc.ClientConn, error)
	// Connect makes connections for the checks that look below gRPC. Default: a
	// net.Dialer's.
	Connect func(ctx context.Context, network, address string) (net.Conn, error)
	// Credentials are those of Dial; nil: no TLS.
	Credentials credentials.TransportCredentials
	// ServerName is the name expected of the balancer's certificate, for who is
	// not dialled by it.
	ServerName string
	// Certificate is the one that the client shows, if any.
	Certificate *x509.Certificate
	// Timeout is for each call and each connection. Default 10 s.
	Timeout time.Duration
	// ExpiryWarning is how long before the end of a certificate is a warning.
	// Default 30 days.
	ExpiryWarning time.Duration
	// Idle is how long streams are held on which nothing passes. 0: none are.
	Idle time.Duration
	// Largest is the largest message that is tried, in bytes. 0: the balancer's own
	// limit; less: none is tried.
	Largest int
	// Now is the clock that the balancer's is held against. Default time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Connect == nil {
		o.Connect = new(net.Dialer).DialContext
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.ExpiryWarning == 0 {
		o.ExpiryWarning = 30 * 24 * time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// exam is one examination, and what later checks need of earlier ones.
type exam struct {
	o      Options
	tell   func(Finding)
	report Report

	at     place     // where the balancer is
	way    net.Conn  // the first connection, for the check that follows
	speech *speech   // how HTTP/2 was spoken; nil when it was not
	proxy  suspicion // what stands between
	wrong  []trouble // what a proxy's lines can mend

	conn      *grpc.ClientConn
	serverID  string
	info      *pb.GetServerInfoResponse // nil when it was not told
	heard     []hearing                 // of the balancer's clock
	limits    *pb.ClientLimits          // nil when they were not told
	maySubmit bool
	mayWork   bool
}

// Examine makes every check, and tells of each as soon as it is made. It blocks:
// for Options.Idle and, when all is well, a few seconds. The error is that of ctx,
// or of Dial; what was found until then is in the report.
func Examine(ctx context.Context, o Options, tell func(Finding)) (*Report, error) {
	e := &exam{o: o.withDefaults(), tell: tell}
	err := e.examine(ctx)
	if e.way != nil {
		_ = e.way.Close() // it was only looked at
	}
	e.report.Advice = e.advice()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return &e.report, err
}

func (e *exam) examine(ctx context.Context) (err error) {
	if !e.reach(ctx) || !e.handshake(ctx) {
		return nil
	}
	e.speak(ctx)
	if e.conn, err = e.o.Dial(); err != nil {
		return err
	}
	defer func() { _ = e.conn.Close() }() // it was in use until here: there is nothing to fail
	if !e.meet(ctx) {
		return nil
	}
	for _, check := range []func(context.Context){
		e.health, e.rights, e.roundTrip, e.frames, e.clock, e.spread, e.messages, e.volume, e.idle,
	} {
		if ctx.Err() != nil {
			return nil
		}
		check(ctx)
	}
	return nil
}

// found adds a finding.
func (e *exam) found(f Finding) {
	e.report.Findings = append(e.report.Findings, f)
	e.tell(f)
}

func (e *exam) ok(check, format string, args ...any) {
	e.found(Finding{Check: check, Status: OK, Said: fmt.Sprintf(format, args...)})
}

func (e *exam) skip(check, format string, args ...any) {
	e.found(Finding{Check: check, Status: Skip, Said: fmt.Sprintf(format, args...)})
}

// within is ctx for one call.
func (e *exam) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, e.o.Timeout)
}

// millis are for Finding.Values.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// span is a duration in as many digits as people want.
func span(d time.Duration) string {
	switch whole := d.Abs(); {
	case whole < time.Millisecond:
		d = d.Round(time.Microsecond)
	case whole < 900*time.Millisecond:
		d = d.Round(100 * time.Microsecond)
	case whole < time.Minute:
		d = d.Round(100 * time.Millisecond)
	case whole < 48*time.Hour:
		d = d.Round(time.Second)
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
	text := d.String()
	for _, nothing := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, nothing) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// bytesOf is a size for people.
func bytesOf(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.4g MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.4g KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
