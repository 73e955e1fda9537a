package wire

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"
)

// Buffers is a pool of buffers for whoever speaks gRPC. Unlike gRPC's own it does
// not clear what it gives out, which is written before it is read.
var Buffers mem.BufferPool = &frames

// pool has buffers by the powers of two of their size.
type pool struct{ sizes [maxSize + 1]sync.Pool }

// Frames are 1 MiB; what is larger is left to the garbage collector.
const maxSize = 21

var frames pool

// Get implements mem.BufferPool. What is in the buffer is not defined.
func (p *pool) Get(size int) *[]byte {
	i := bits.Len(uint(size - 1))
	if i > maxSize {
		b := make([]byte, size)
		return &b
	}
	if b, ok := p.sizes[i].Get().(*[]byte); ok {
		*b = (*b)[:size]
		return b
	}
	b := make([]byte, size, 1<<i)
	return &b
}

// Put implements mem.BufferPool.
func (p *pool) Put(b *[]byte) {
	if i := bits.Len(uint(cap(*b))) - 1; i >= 0 && i <= maxSize { // of a power of two, or more
		p.sizes[i].Put(b)
	}
}
