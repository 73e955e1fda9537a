package rpc

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"runtime"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "reparto/gen/reparto/v1"
	"reparto/internal/dispatch"
	"reparto/internal/task"
)

// Views is what the border wants of whoever can be looked at.
type Views interface {
	Info() dispatch.Info
	Functions(after string, limit int) []dispatch.FunctionInfo
	Workers(function, after string, limit int) []dispatch.WorkerInfo
}

// adminService is the door for operators.
type adminService struct {
	pb.UnimplementedAdminServiceServer
	views   Views
	hand    Hand
	log     *slog.Logger
	limits  func() dispatch.Options // in force
	opt     Options
	version string
	text    *textPeers
}

// Bounds of a page.
const (
	defaultPage = 100
	maxPage     = 1000
)

// page checks what a request says of its page, and returns the last name of the
// page before.
func page(size int32, token string) (limit int, after string, err error) {
	return pageUpTo(size, token, task.MaxIDLen)
}

// pageUpTo is page of a listing whose names may be that long, in bytes.
func pageUpTo(size int32, token string, longest int) (limit int, after string, err error) {
	switch {
	case size < 0 || size > maxPage:
		return 0, "", invalid("page_size", fmt.Sprintf("is %d; give 1 to %d, or 0 for %d", size, maxPage, defaultPage))
	case size == 0:
		size = defaultPage
	}
	last, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(last) > longest {
		return 0, "", invalid("page_token", fmt.Sprintf("%.64q is none of ours; give next_page_token of the answer before, or nothing", token))
	}
	return int(size), string(last), nil
}

// nextPage cuts a listing that holds one more than was asked for, and makes the
// token for the rest.
func nextPage[T any](found []T, limit int, name func(T) string) ([]T, string) {
	if len(found) <= limit {
		return found, ""
	}
	found = found[:limit]
	return found, base64.RawURLEncoding.EncodeToString([]byte(name(found[limit-1])))
}

func (s *adminService) ListWorkers(_ context.Context, req *pb.ListWorkersRequest) (*pb.ListWorkersResponse, error) {
	if req.GetFunction() != "" {
		if err := task.CheckFunction(req.GetFunction()); err != nil {
			return nil, refuse(err)
		}
	}
	limit, after, err := page(req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	found, next := nextPage(s.views.Workers(req.GetFunction(), after, limit+1), limit,
		func(w dispatch.WorkerInfo) string { return w.WorkerID })
	resp := &pb.ListWorkersResponse{NextPageToken: next}
	for i := range found {
		resp.Workers = append(resp.Workers, workerToWire(&found[i]))
	}
	return resp, nil
}

func workerToWire(w *dispatch.WorkerInfo) *pb.Worker {
	to := &pb.Worker{
		WorkerId: w.WorkerID, SessionId: w.SessionID, Address: w.Address, Functions: w.Registration.Functions,
		Slots: int32(w.Slots), FreeSlots: int32(w.FreeSlots), Labels: w.Labels, Build: w.Build, Draining: w.Draining,
		ConnectedFor: durationpb.New(w.Connected), LastHeardAgo: durationpb.New(w.LastHeard), TasksDone: w.Done,
	}
	for _, r := range w.Running {
		to.Running = append(to.Running, &pb.Running{
			TaskId: r.TaskID, Function: r.Function, Attempt: int32(r.Attempt), RunningFor: durationpb.New(r.For),
			Cancelled: r.Cancelled, ProgressPercent: r.Progress.Percent, ProgressMessage: r.Progress.Message,
		})
	}
	return to
}

func (s *adminService) ListFunctions(_ context.Context, req *pb.ListFunctionsRequest) (*pb.ListFunctionsResponse, error) {
	limit, after, err := page(req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	found, next := nextPage(s.views.Functions(after, limit+1), limit,
		func(f dispatch.FunctionInfo) string { return f.Name })
	resp := &pb.ListFunctionsResponse{NextPageToken: next}
	for _, f := range found {
		to := &pb.Function{
			Name: f.Name, Workers: int32(f.Workers), FreeSlots: int32(f.FreeSlots), Queued: int64(f.Queued),
			QueuedBytes: int64(f.QueuedBytes), Running: int64(f.Running), Scheduled: int64(f.Scheduled),
			SubmittedPerSecond: f.SubmittedPerSecond, FinishedPerSecond: f.FinishedPerSec,
			Submitted: f.Totals.Submitted, Succeeded: f.Totals.Succeeded, Failed: f.Totals.Failed,
			Cancelled: f.Totals.Cancelled, Expired: f.Totals.Expired, Retried: f.Totals.Retried,
			Paused: f.Paused,
		}
		if f.Queued > 0 {
			to.OldestAge = durationpb.New(f.OldestAge)
		}
		to.DispatchLatency, to.RunTime = latencyToWire(f.Dispatch), latencyToWire(f.Run)
		resp.Functions = append(resp.Functions, to)
	}
	return resp, nil
}

func latencyToWire(l dispatch.Latency) *pb.Latency {
	if l.Count == 0 {
		return nil
	}
	return &pb.Latency{Count: l.Count, P50: durationpb.New(l.P50), P99: durationpb.New(l.P99)}
}

func (s *adminService) GetServerInfo(context.Context, *pb.GetServerInfoRequest) (*pb.GetServerInfoResponse, error) {
	info, l := s.views.Info(), s.limits()
	resp := &pb.GetServerInfoResponse{
		Version: s.version, GoVersion: runtime.Version(), ServerId: info.ID, Uptime: durationpb.New(info.Uptime),
		Draining: info.Draining, Workers: int64(info.Sessions), Queued: int64(info.Queued),
		Scheduled: int64(info.Scheduled), Running: int64(info.Running), Bytes: int64(info.Bytes),
		Limits: &pb.ServerLimits{
			MaxPayloadBytes: int64(l.MaxPayload), MaxMessageBytes: int64(s.opt.MaxMessage),
			MaxQueuedTasks: int64(l.Balance.MaxQueuedTasks), MaxBytes: int64(l.Balance.MaxBytes),
			MaxFunctionQueuedTasks: int64(l.Balance.MaxFunctionQueuedTasks),
			MaxFunctionQueuedBytes: int64(l.Balance.MaxFunctionQueuedBytes),
			DefaultTimeout:         durationpb.New(l.DefaultTimeout), MaxTimeout: durationpb.New(l.MaxTimeout),
			HeartbeatInterval: durationpb.New(l.Heartbeat),
		},
		Store: info.Store, Time: timestamppb.Now(),
	}
	if info.StoreError != nil {
		resp.StoreError = info.StoreError.Error()
	}
	return resp, nil
}
