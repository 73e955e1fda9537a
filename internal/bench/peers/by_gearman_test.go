package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"testing"

	"reparto/internal/bench/peers/gearman"
)

// wire is a connection that keeps what is written.
type wire struct {
	net.Conn
	bytes.Buffer
}

func (w *wire) Write(b []byte) (int, error) { return w.Buffer.Write(b) }
func (w *wire) Read(b []byte) (int, error)  { return w.Buffer.Read(b) }

// requests are the kinds that were written since the last time.
func (w *wire) requests() (kinds []gearman.Kind) {
	for w.Len() > 0 {
		h := w.Next(12)
		kinds = append(kinds, gearman.Kind(binary.BigEndian.Uint32(h[4:])))
		w.Next(int(binary.BigEndian.Uint32(h[8:])))
	}
	return kinds
}

// A worker sleeps when all its grabs came back empty, and not before; awake, it
// has as many out as it may.
func TestGrabber(t *testing.T) {
	out := &wire{}
	w := &grabber{conn: gearman.NewConn(out), most: 3}
	w.grab()
	const grab, complete, sleep = gearman.GrabJob, gearman.WorkComplete, gearman.PreSleep
	assign := gearman.Packet{Kind: gearman.JobAssign, Body: []byte("H:1\x00echo\x00x")}
	for i, step := range []struct {
		packet gearman.Packet
		want   []gearman.Kind
	}{
		{assign, []gearman.Kind{grab, grab, grab, complete, grab}},
		{gearman.Packet{Kind: gearman.NoJob}, nil},
		{gearman.Packet{Kind: gearman.NoJob}, nil},
		{gearman.Packet{Kind: gearman.NoJob}, []gearman.Kind{sleep}},
		{gearman.Packet{Kind: gearman.Noop}, []gearman.Kind{grab, grab, grab}},
		{gearman.Packet{Kind: gearman.Noop}, nil},
		{assign, []gearman.Kind{complete, grab}},
	} {
		if err := w.take(t.Context(), step.packet, 0); err != nil {
			t.Fatal(err)
		}
		if got := out.requests(); !slices.Equal(got, step.want) {
			t.Errorf("step %d: wrote %v, want %v", i, got, step.want)
		}
	}
	if err := w.take(t.Context(), gearman.Packet{Kind: gearman.WorkFail}, 0); err == nil {
		t.Error("a packet that no server sends to a worker passed")
	}
}
