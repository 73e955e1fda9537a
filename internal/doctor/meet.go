package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	pb "reparto/gen/reparto/v1"
)

// info is what the balancer says of an error that it made itself; nil when
// somebody else made it.
func info(err error) *errdetails.ErrorInfo {
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok && i.GetDomain() == "reparto" {
			return i
		}
	}
	return nil
}

// answered says that err is a gRPC server's answer, and nothing that our side has
// made of a broken connection or of a page.
func answered(err error) bool {
	if err == nil || info(err) != nil {
		return true
	}
	s := status.Convert(err)
	switch s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown:
		return false
	}
	return !strings.Contains(s.Message(), "HTTP status code received from server")
}

// words is an error in one line, without what gRPC wraps it in.
func words(err error) string {
	text := oneLine(status.Convert(err).Message())
	for _, layer := range []string{"Error while dialing: ", "error reading server preface: "} {
		if _, inner, ok := strings.Cut(text, layer); ok {
			text = strings.TrimSuffix(inner, `"`)
		}
	}
	text, _, _ = strings.Cut(text, "; transport: received unexpected content-type") // and the page
	if text == "" {
		text = status.Code(err).String()
	}
	if r := []rune(text); len(r) > 300 {
		text = string(r[:299]) + "…"
	}
	return text
}

// meet makes the first calls. It reports whether gRPC is answered.
func (e *exam) meet(ctx context.Context) bool {
	limited, cancel := e.within(ctx)
	defer cancel()
	_, err := healthpb.NewHealthClient(e.conn).Check(limited, &healthpb.HealthCheckRequest{})
	if ctx.Err() != nil {
		return false
	}
	if !answered(err) {
		e.found(Finding{
			Check: "grpc", Status: Fail, Said: "no answer to a gRPC call: " + words(err),
			Do: "see what the checks before this one found; then the log of the balancer, or of the proxy",
		})
		return false
	}
	e.report.Reached = true
	resp, err := e.hear(ctx, e.conn)
	why := info(err)
	switch {
	case err == nil:
		e.info, e.serverID = resp, resp.GetServerId()
		l := resp.GetLimits()
		e.found(Finding{
			Check: "balancer", Status: OK,
			Said: fmt.Sprintf("Reparto %s, up for %s; messages up to %s, payloads up to %s, tasks up to %s long, a heartbeat every %s",
				resp.GetVersion(), span(resp.GetUptime().AsDuration()), bytesOf(int(l.GetMaxMessageBytes())), bytesOf(int(l.GetMaxPayloadBytes())),
				span(l.GetMaxTimeout().AsDuration()), span(l.GetHeartbeatInterval().AsDuration())),
			Values: map[string]any{
				"version": resp.GetVersion(), "server_id": resp.GetServerId(), "max_message_bytes": l.GetMaxMessageBytes(),
				"max_payload_bytes": l.GetMaxPayloadBytes(),
			},
		})
	case why != nil:
		e.ok("balancer", "Reparto; its version and limits are only for whom it knows")
	case answered(err):
		e.found(Finding{
			Check: "balancer", Status: Fail, Said: "what answers speaks gRPC and is no Reparto balancer: " + words(err),
			Do: "check the address in --balancer, and where the proxy sends /reparto.v1.*",
		})
		return false
	default:
		e.found(Finding{Check: "balancer", Status: Fail, Said: "the health answers and the balancer does not: " + words(err), Do: "send all paths of this host and port to the balancer"})
		return false
	}
	return true
}

// health asks what load balancers ask.
func (e *exam) health(ctx context.Context) {
	serving := func(service string) (healthpb.HealthCheckResponse_ServingStatus, error) {
		limited, cancel := e.within(ctx)
		defer cancel()
		resp, err := healthpb.NewHealthClient(e.conn).Check(limited, &healthpb.HealthCheckRequest{Service: service})
		return resp.GetStatus(), err
	}
	all, err := serving("")
	switch {
	case err != nil:
		e.found(Finding{Check: "health", Status: Fail, Said: "not told: " + words(err), Do: "send /grpc.health.v1.Health/ to the balancer too"})
		return
	case all != healthpb.HealthCheckResponse_SERVING:
		e.found(Finding{Check: "health", Status: Fail, Said: all.String() + ": the balancer is stopping, and takes nothing new", Do: "wait for its successor, or start one"})
		return
	}
	// A name that it does not know is a balancer of before the name.
	if keeps, err := serving("reparto.v1.TaskService/Enqueue"); err == nil && keeps != healthpb.HealthCheckResponse_SERVING {
		f := Finding{Check: "health", Status: Warn, Said: "SERVING, but nothing can be enqueued", Do: "see the balancer's log for what is wrong with its store"}
		if why := e.info.GetStoreError(); why != "" {
			f.Said += ": " + oneLine(why)
		}
		e.found(f)
		return
	}
	e.ok("health", "SERVING")
}

// right is one that a principal has or has not.
type right struct {
	name string
	// ask makes a call that takes the right, and that is refused for another reason
	// by a balancer that grants it.
	ask func(ctx context.Context, conn *grpc.ClientConn) error
}

var allRights = []right{
	{"submit", func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := pb.NewTaskServiceClient(conn).Submit(ctx, &pb.SubmitRequest{})
		return err
	}},
	{"ask about tasks", func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := pb.NewTaskServiceClient(conn).GetTask(ctx, &pb.GetTaskRequest{})
		return err
	}},
	{"work", func(ctx context.Context, conn *grpc.ClientConn) error {
		stream, err := pb.NewWorkerServiceClient(conn).Work(ctx)
		if err == nil {
			err = stream.CloseSend()
		}
		if err == nil {
			_, err = stream.Recv()
		}
		if err == io.EOF {
			err = errors.New("the stream ended without a word")
		}
		return err
	}},
	{"administer", func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := pb.NewAdminServiceClient(conn).ListFunctions(ctx, &pb.ListFunctionsRequest{PageSize: 1})
		return err
	}},
}

// rights finds out what this caller may do.
func (e *exam) rights(ctx context.Context) {
	var may, mayNot, unclear []string
	who := ""
	for _, r := range allRights {
		limited, cancel := e.within(ctx)
		err := r.ask(limited, e.conn)
		cancel()
		why := info(err)
		if who == "" {
			who = why.GetMetadata()["principal"]
		}
		switch code := status.Code(err); {
		case code == codes.Unauthenticated:
			e.stranger(err)
			return
		case err == nil, why != nil && code == codes.InvalidArgument:
			may = append(may, r.name)
			e.maySubmit = e.maySubmit || r.name == "submit"
			e.mayWork = e.mayWork || r.name == "work"
		case why != nil && code == codes.PermissionDenied:
			mayNot = append(mayNot, r.name)
		default:
			unclear = append(unclear, r.name+": "+words(err))
		}
	}
	f := Finding{Check: "rights", Status: OK, Values: map[string]any{"may": may, "may_not": mayNot}}
	if who != "" {
		f.Said, f.Values["principal"] = "principal "+who+": ", who
	}
	f.Said += "may " + list(may)
	if len(mayNot) > 0 {
		f.Said += "; may not " + list(mayNot)
	}
	if len(unclear) > 0 {
		f.Status, f.Do = Fail, "send all paths of this host and port to the balancer, and see its log"
		f.Said += "; no answer for " + strings.Join(unclear, "; ")
	}
	if len(may) == 0 && f.Do == "" {
		f.Status, f.Do = Fail, "name what this principal may do in the balancer's --auth file"
	}
	e.found(f)
}

func list(names []string) string {
	if len(names) == 0 {
		return "do nothing"
	}
	return strings.Join(names, ", ")
}

// stranger tells of credentials that the balancer does not take.
func (e *exam) stranger(err error) {
	f := Finding{Check: "rights", Status: Fail, Said: words(err), Do: "see docs/auth.md for what to show", Values: map[string]any{"reason": info(err).GetReason()}}
	if info(err).GetReason() == "NO_CREDENTIALS" {
		f.Do = "show a token (--token-file FILE), or a certificate (--tls-cert, --tls-key)"
		if e.o.Certificate != nil && !e.proxy.direct {
			f.Do = "TLS ends at the proxy, so the balancer does not see the client certificate: show a token (--token-file FILE), or let the proxy pass TLS on as it is"
		}
	}
	e.found(f)
}
