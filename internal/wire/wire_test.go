package wire

import (
	"hash/crc32"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "reparto/gen/reparto/v1"
)

// kinds makes an empty message of each kind.
var kinds = []func() proto.Message{
	func() proto.Message { return &pb.SubmitStreamRequest{} },
	func() proto.Message { return &pb.SubmitStreamResponse{} },
	func() proto.Message { return &pb.WorkRequest{} },
	func() proto.Message { return &pb.WorkResponse{} },
	func() proto.Message { return &pb.EnqueueRequest{} },
	func() proto.Message { return &pb.EnqueueResponse{} },
}

func text(s string) *string { return &s }

// samples have every field somewhere, set and unset, small and large.
func samples() []proto.Message {
	long := []byte(strings.Repeat("x", 5000))
	pairs := map[string]string{"a": "1", "": "", "traceparent": strings.Repeat("0", 300)}
	failure := &pb.Failure{Reason: "R", Message: "m", Retry: true, RetryAfterMs: 7}
	problem := &pb.Error{Code: 8, Reason: "QUEUE_FULL", Message: "é", RetryAfterMs: 1, Metadata: pairs}
	full := &pb.Error{Code: 8, Reason: "QUEUE_FULL", Message: "m", Metadata: map[string]string{"limit": "2000"}}
	var many []*pb.StreamTask
	for i := range 300 {
		many = append(many, &pb.StreamTask{Number: uint64(i), Function: "f" + strings.Repeat("o", i%7), Payload: long[:i%200], TaskId: strings.Repeat("i", i%40)})
	}
	return []proto.Message{
		&pb.SubmitStreamRequest{},
		&pb.SubmitStreamRequest{CancelNumbers: []uint64{0, 1, 300, 1 << 63}},
		&pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{
			{}, {Number: 1 << 40, Function: "sum", Payload: []byte("1,2"), TaskId: "t", Metadata: pairs, TimeoutMs: -1, AttemptTimeoutMs: 1 << 50,
				MaxAttempts: -3, FailFast: true, Priority: 5},
			{Text: text("")}, {Text: text("grüße"), Payload: long},
		}},
		&pb.SubmitStreamRequest{Tasks: many},
		&pb.SubmitStreamResponse{Limits: &pb.ClientLimits{MaxFrameTasks: 256}},
		&pb.SubmitStreamResponse{Outcomes: []*pb.StreamOutcome{
			{}, {Number: 3, TaskId: "t", Result: long, Attempt: 2, WorkerId: "w"}, {Text: text("x"), WorkerId: "w"},
			{Failure: failure, Attempt: -1}, {Error: problem},
		}},
		&pb.SubmitStreamResponse{Outcomes: []*pb.StreamOutcome{
			{Error: full, Number: 1}, {Error: full, Number: 1 << 60}, {Error: &pb.Error{}}, {}, {Error: full, TaskId: string(long)},
			{Error: proto.CloneOf(full)}, {Error: problem}, {Error: full},
		}},
		&pb.WorkRequest{Register: &pb.Register{WorkerId: "w", Functions: []string{"f"}}},
		&pb.WorkRequest{Progress: []*pb.Progress{{Token: 1, Percent: 2, Message: "m"}}},
		&pb.WorkRequest{Heartbeat: &pb.Heartbeat{}, Drain: &pb.Drain{}, TaskResults: []*pb.TaskResult{
			{}, {TaskId: "t", Attempt: 1, Token: 1 << 60, Result: []byte("15")}, {Token: 2, Failure: failure}, {Token: 3},
		}},
		&pb.WorkResponse{Ack: &pb.Ack{WorkerId: "w"}},
		&pb.WorkResponse{Heartbeat: &pb.Heartbeat{}, Drain: &pb.Drain{ReconnectAfterMs: 5, Leave: true}, AckedTokens: []uint64{1, 0, 1 << 63},
			AssignTasks: []*pb.AssignTask{{}, {TaskId: "t", Attempt: 9, Token: 4, Function: "f", Payload: long, Metadata: pairs, TimeRemainingMs: 100}},
			CancelTasks: []*pb.CancelTask{{}, {TaskId: "t", Token: 4, Reason: "DEADLINE"}}},
		&pb.EnqueueRequest{Tasks: []*pb.EnqueueTask{
			{}, {Function: "f", Payload: []byte("p"), TaskId: "t", Metadata: pairs, RunAt: timestamppb.New(time.Unix(5, 6)), Delay: durationpb.New(time.Second),
				Priority: 1, MaxAttempts: 2, Backoff: &pb.Backoff{Multiplier: 2, Jitter: .5}, AttemptTimeout: durationpb.New(1),
				ExpireTime: &timestamppb.Timestamp{}, TimeToLive: durationpb.New(time.Hour), Retention: durationpb.New(2), FreshId: true},
			{Text: text("t"), Function: "f"},
		}},
		&pb.EnqueueResponse{Results: []*pb.Enqueued{{}, {TaskId: "t", Existed: true}, {Error: problem}, {Error: problem}}},
	}
}

func encode(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := Codec{}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Free()
	return data.Materialize()
}

func decode(b []byte, to proto.Message) error {
	return Codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, to)
}

// The library reads what the codec writes, and the codec what the library writes.
func TestTheLibraryAgrees(t *testing.T) {
	for _, m := range samples() {
		name := string(m.ProtoReflect().Descriptor().Name())
		b := encode(t, m)
		read := m.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(b, read); err != nil || !proto.Equal(m, read) {
			t.Errorf("%s: the library reads %v, %v\nof %v", name, read, err, m)
		}
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		own := m.ProtoReflect().New().Interface()
		if err := decode(b, own); err != nil || !proto.Equal(m, own) {
			t.Errorf("%s: the codec reads %v, %v\nof %v", name, own, err, m)
		}
	}
}

// Only the fast way is of use: samples without what is rare must not leave it.
func TestCommonMessagesAreReadByHand(t *testing.T) {
	for _, m := range samples() {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		d := decoder{b: b}
		d.read(m.ProtoReflect().New().Interface())
		if want := hintOf(m) == rare; d.bad != want {
			t.Errorf("%v: left to the library: %t, want %t", m, d.bad, want)
		}
	}
}

func TestAFrameIsReadIntoTheSameMessages(t *testing.T) {
	first := &pb.SubmitStreamRequest{CancelNumbers: []uint64{7}, Tasks: []*pb.StreamTask{
		{Number: 1, Function: "f", Payload: []byte("one"), TaskId: "id", Metadata: map[string]string{"k": "v"}, FailFast: true, Text: text("x")},
		{Number: 2},
	}}
	second := &pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{{Number: 3, Payload: []byte("three")}}}
	frame := &pb.SubmitStreamRequest{}
	if err := decode(encode(t, first), frame); err != nil {
		t.Fatal(err)
	}
	message, payload := frame.Tasks[0], frame.Tasks[0].Payload
	if err := decode(encode(t, second), frame); err != nil {
		t.Fatal(err)
	}
	if frame.Tasks[0] != message {
		t.Error("another message")
	}
	if !proto.Equal(frame, second) {
		t.Errorf("read %v, want %v", frame, second)
	}
	if string(payload) != "one" {
		t.Errorf("the payload that was kept is now %q", payload)
	}
}

// Whatever a stream's frame held, the next is read into it as if it were new.
func TestAFrameLeavesNothingToTheNext(t *testing.T) {
	for _, first := range samples() {
		for _, second := range samples() {
			kind := second.ProtoReflect().Descriptor()
			if first.ProtoReflect().Descriptor() != kind || strings.HasPrefix(string(kind.Name()), "Enqueue") {
				continue
			}
			frame := first.ProtoReflect().New().Interface()
			for _, m := range []proto.Message{first, second, first} {
				if err := decode(encode(t, m), frame); err != nil || !proto.Equal(m, frame) {
					t.Errorf("%v reads as %v, %v", m, frame, err)
				}
			}
		}
	}
}

// What the network took apart is put together once: each payload where it is kept,
// and nothing else is kept with it.
func TestPayloadsThatComeInParts(t *testing.T) {
	big := []byte(strings.Repeat("0123456789", 6_000))
	small := []byte("small")
	for name, payloads := range map[string][][]byte{
		"one": {big}, "before a small one": {big, small}, "after a small one": {small, big}, "several": {big, big, big},
	} {
		t.Run(name, func(t *testing.T) {
			m := &pb.SubmitStreamRequest{}
			for i, p := range payloads {
				m.Tasks = append(m.Tasks, &pb.StreamTask{Number: uint64(i), Function: "f", Payload: p})
			}
			whole := encode(t, m)
			parts := apart(whole, 16<<10)
			read := &pb.SubmitStreamRequest{}
			const rounds = 20
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range rounds {
				if err := (Codec{}).Unmarshal(parts, read); err != nil {
					t.Fatal(err)
				}
			}
			runtime.ReadMemStats(&after)
			if made, limit := (after.TotalAlloc-before.TotalAlloc)/rounds, uint64(len(whole)*5/4); made > limit {
				t.Errorf("%d bytes allocated for a message of %d", made, len(whole))
			}
			clear(whole) // it is not ours any more
			if !proto.Equal(m, read) {
				t.Error("read something else")
			}
		})
	}
}

// Payloads from 8 KiB on go out as they are if they may, wherever they stand and
// however many bytes the lengths before them take.
func TestSharedPayloads(t *testing.T) {
	sizes := []int{sharedFrom - 1, sharedFrom, 1<<21 - 50, 1<<21 - 20, 1 << 21}
	for n := 1<<14 - 100; n <= 1<<14; n++ {
		sizes = append(sizes, n)
	}
	for _, size := range sizes {
		payload := []byte(strings.Repeat("0123456789", size/10+1))[:size]
		for _, number := range []uint64{0, 1, math.MaxUint64} {
			task := &pb.AssignTask{TaskId: "id", Attempt: 1, Token: number, Payload: payload, TimeRemainingMs: int64(number >> 1)}
			outcome := &pb.StreamOutcome{Number: number, Result: payload, Attempt: int32(number >> 33)}
			for _, m := range []proto.Message{
				&pb.WorkResponse{AssignTasks: []*pb.AssignTask{task}},
				&pb.WorkResponse{AssignTasks: []*pb.AssignTask{{Payload: payload}}},
				&pb.WorkResponse{AssignTasks: []*pb.AssignTask{{TaskId: "small"}, task, {TaskId: "small"}, task}, AckedTokens: []uint64{1}},
				&pb.SubmitStreamResponse{Outcomes: []*pb.StreamOutcome{outcome}},
				&pb.SubmitStreamResponse{Outcomes: []*pb.StreamOutcome{{Number: 1}, outcome, outcome, {Number: 2}}},
			} {
				for _, share := range []bool{true, false} {
					data, err := Codec{Share: share}.Marshal(m)
					if err != nil {
						t.Fatal(err)
					}
					shares := slices.ContainsFunc(data, func(b mem.Buffer) bool { return &b.ReadOnlyData()[0] == &payload[0] })
					if want := share && size >= sharedFrom; shares != want {
						t.Errorf("%d bytes, sharing %t: shared: %t", size, share, shares)
					}
					read := m.ProtoReflect().New().Interface()
					if err := proto.Unmarshal(data.Materialize(), read); err != nil || !proto.Equal(m, read) {
						t.Fatalf("%d bytes, number %d: the library reads something else, %v", size, number, err)
					}
					data.Free()
				}
			}
		}
	}
}

func TestTextThatIsNotUTF8IsRefused(t *testing.T) {
	bad := string([]byte{0xff})
	for _, m := range []proto.Message{
		&pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{{Function: bad}}},
		&pb.SubmitStreamRequest{Tasks: []*pb.StreamTask{{Metadata: map[string]string{"k": bad}}}},
		&pb.WorkRequest{TaskResults: []*pb.TaskResult{{Failure: &pb.Failure{Message: bad}}}},
	} {
		if _, err := (Codec{}).Marshal(m); err == nil || !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("%T was written: %v", m, err)
		}
	}
	task := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), []byte(bad))
	frame := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), task)
	if err := decode(frame, &pb.SubmitStreamRequest{}); err == nil {
		t.Error("it was read")
	}
}

func TestOthersAreTheLibrarys(t *testing.T) {
	m := &pb.SubmitRequest{Function: "sum", Payload: []byte("1,2")}
	read := &pb.SubmitRequest{}
	if err := decode(encode(t, m), read); err != nil || !proto.Equal(m, read) {
		t.Errorf("%v, %v", read, err)
	}
}

// A balancer whose queue is full says so of thousands of tasks at a time: what is
// the same for all must be paid for once.
func TestRefusalsThatAreTheSameCostLittle(t *testing.T) {
	m := refusals()
	data, err := Codec{}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	read := &pb.SubmitStreamResponse{}
	allocs := testing.AllocsPerRun(100, func() {
		if err := (Codec{}).Unmarshal(data, read); err != nil {
			t.Fatal(err)
		}
	})
	if !proto.Equal(m, read) {
		t.Errorf("read %v", read)
	}
	if each := allocs / float64(len(m.Outcomes)); each > 0.3 {
		t.Errorf("%.1f allocations for a refusal", each)
	}
}

// refusals is the frame of a balancer whose queue is full.
func refusals() *pb.SubmitStreamResponse {
	full := &pb.Error{Code: 8, Reason: "QUEUE_FULL", Message: "the queue of the function is full (2000 tasks)", RetryAfterMs: 500,
		Metadata: map[string]string{"limit": "2000"}}
	m := &pb.SubmitStreamResponse{}
	for i := range 128 {
		m.Outcomes = append(m.Outcomes, &pb.StreamOutcome{Number: 1<<40 + uint64(i), TaskId: "01942d3f-0000-7000-8000-000000000000", Error: full})
	}
	return m
}

// What breaks off, or is changed on its way, is read as the library reads it.
func TestDamagedMessages(t *testing.T) {
	for _, m := range samples() {
		whole, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		for i := range min(len(whole), 300) {
			agree(t, m, whole[:i])
			changed := slices.Clone(whole)
			for _, bit := range []byte{1, 2, 7, 8, 0x80} {
				changed[i] = whole[i] ^ bit
				agree(t, m, changed)
			}
		}
	}
}

// agree checks that the codec reads b, as a message of the kind of m, as the library
// does, however the network takes it apart, and returns what it reads.
func agree(t *testing.T, m proto.Message, b []byte) (own proto.Message, err error) {
	t.Helper()
	theirs := m.ProtoReflect().New().Interface()
	want := proto.Unmarshal(b, theirs)
	for _, size := range []int{max(1, len(b)), 1 + int(crc32.ChecksumIEEE(b)%100)} {
		own = m.ProtoReflect().New().Interface()
		err = Codec{}.Unmarshal(apart(b, size), own)
		if (err == nil) != (want == nil) {
			t.Fatalf("%x, by %d bytes: the codec says %v, the library %v", b, size, err, want)
		}
		if err == nil && !proto.Equal(own, theirs) {
			t.Fatalf("%x, by %d bytes: read %v\nwant %v", b, size, own, theirs)
		}
	}
	return own, err
}

// apart has a message as it comes off the wire, in buffers of so many bytes.
func apart(b []byte, size int) (parts mem.BufferSlice) {
	for part := range slices.Chunk(b, size) {
		parts = append(parts, mem.SliceBuffer(part))
	}
	return parts
}

// FuzzUnmarshal holds the codec against the library on whatever may arrive.
func FuzzUnmarshal(f *testing.F) {
	for _, m := range samples() {
		for i, make := range kinds {
			if make().ProtoReflect().Descriptor() == m.ProtoReflect().Descriptor() {
				b, err := proto.Marshal(m)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(uint8(i), b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		make := kinds[int(kind)%len(kinds)]
		own, err := agree(t, make(), b)
		if err != nil {
			return
		}
		again := make()
		if err := proto.Unmarshal(encode(t, own), again); err != nil || !proto.Equal(own, again) && !unknown(own) {
			t.Fatalf("written and read again: %v, %v\nof %v", again, err, own)
		}
	})
}

// unknown reports whether a message holds unknown fields, which Marshal may leave
// out.
func unknown(m proto.Message) bool {
	clean := proto.Clone(m)
	var o = proto.UnmarshalOptions{DiscardUnknown: true}
	b, err := proto.Marshal(clean)
	return err != nil || o.Unmarshal(b, clean) != nil || !proto.Equal(m, clean)
}
