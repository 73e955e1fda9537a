// Package wire encodes and decodes by hand the messages that carry many tasks:
// the frames of SubmitStream and of Work, and Enqueue's batches. On the wire they
// are what buf generate's code would write and read; they cost a third of it,
// since a message's tasks, their strings and their payloads are allocated together.
//
//	grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}))
//	client.Work(ctx, grpc.ForceCodecV2(wire.Codec{}))
//
// What it does not know (an unknown field, a first frame, invalid UTF-8) it leaves
// to the library, the whole message: so there is one judge of what is valid.
package wire

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto" // registers the library's codec
	"google.golang.org/grpc/mem"

	pb "reparto/gen/reparto/v1"
)

// Codec is gRPC's codec for protobuf. It may be used concurrently.
//
// Unmarshal of a stream's frame uses the messages in it again: who reads a stream
// into one and the same frame must be done with it before the next, and may keep
// the payloads, results and strings alone, and failures and errors. The
// messages that Marshal takes must not hold unknown fields. Errors that are the same
// in one message that was read are one: nobody may change them.
type Codec struct {
	// Share says that Marshal does not copy payloads of 8 KiB and more, but hands on
	// those of the message: nobody may change them any more, even when the message
	// is sent.
	Share bool
}

// rare is the hint of what is left to the library.
const rare = -1

var library = encoding.GetCodecV2(proto.Name)

// Name implements encoding.CodecV2.
func (Codec) Name() string { return proto.Name }

// Marshal implements encoding.CodecV2.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	size := hintOf(v)
	if size == rare {
		return library.Marshal(v)
	}
	w := writer{share: c.Share}
	if c.Share && size > sharedFrom {
		size -= sharedOf(v)
	}
	if mem.IsBelowBufferPoolingThreshold(size) {
		w.b = make([]byte, 0, size)
		if w.write(v); w.bad {
			return library.Marshal(v)
		}
		return w.buffers(mem.SliceBuffer(w.b)), nil
	}
	buf := frames.Get(size)
	w.b = (*buf)[:0]
	if w.write(v); w.bad {
		frames.Put(buf)
		return library.Marshal(v)
	}
	*buf = w.b // longer than was thought, perhaps: the pool takes that too
	return w.buffers(mem.NewBuffer(buf, &frames)), nil
}

// hintOf is about how many bytes a message takes, or rare when it is left to the
// library.
func hintOf(v any) int {
	switch m := v.(type) {
	case *pb.SubmitStreamRequest:
		return hintOfSubmitRequest(m)
	case *pb.SubmitStreamResponse:
		return hintOfSubmitResponse(m)
	case *pb.WorkRequest:
		return hintOfWorkRequest(m)
	case *pb.WorkResponse:
		return hintOfWorkResponse(m)
	case *pb.EnqueueRequest:
		return hintOfEnqueueRequest(m)
	case *pb.EnqueueResponse:
		return hintOfEnqueueResponse(m)
	}
	return rare
}

// sharedOf is how many bytes of a message are shared, if any may be. Only of what the
// balancer says: the SDKs share nothing.
func sharedOf(v any) (n int) {
	add := func(payload []byte) {
		if isShared(payload) {
			n += len(payload)
		}
	}
	switch m := v.(type) {
	case *pb.SubmitStreamResponse:
		for _, o := range m.Outcomes {
			add(o.Result)
		}
	case *pb.WorkResponse:
		for _, t := range m.AssignTasks {
			add(t.Payload)
		}
	}
	return n
}

func (w *writer) write(v any) {
	switch m := v.(type) {
	case *pb.SubmitStreamRequest:
		w.submitRequest(m)
	case *pb.SubmitStreamResponse:
		w.submitResponse(m)
	case *pb.WorkRequest:
		w.workRequest(m)
	case *pb.WorkResponse:
		w.workResponse(m)
	case *pb.EnqueueRequest:
		w.enqueueRequest(m)
	case *pb.EnqueueResponse:
		w.enqueueResponse(m)
	}
}

// Unmarshal implements encoding.CodecV2.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	d := decoder{buffers: data, after: data.Len()}
	if d.read(v); !d.bad {
		return nil
	}
	return library.Unmarshal(data, v)
}

func (d *decoder) read(v any) {
	switch m := v.(type) {
	case *pb.SubmitStreamRequest:
		d.submitRequest(m)
	case *pb.SubmitStreamResponse:
		d.submitResponse(m)
	case *pb.WorkRequest:
		d.workRequest(m)
	case *pb.WorkResponse:
		d.workResponse(m)
	case *pb.EnqueueRequest:
		d.enqueueRequest(m)
	case *pb.EnqueueResponse:
		d.enqueueResponse(m)
	default:
		d.bad = true
	}
}
