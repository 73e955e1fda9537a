package rpc

import "reparto/internal/dispatch"

// flights are the tasks of a stream that have no outcome yet. Each has a place,
// which is what the dispatcher knows it by, so that an outcome needs no search.
type flights struct {
	places map[uint64]uint32 // by the client's numbers
	list   []flight          // by place
	unused []uint32
}

type flight struct {
	number uint64
	ticket dispatch.Ticket
	text   bool // the client gave text, and wants it back
	waits  bool // its place is taken
	size   int  // of its payload
}

func (f *flights) count() int { return len(f.places) }

func (f *flights) at(place uint32) *flight { return &f.list[place] }

// depart gives a task a place.
func (f *flights) depart(number uint64, text bool, size int) uint32 {
	var place uint32
	if n := len(f.unused); n > 0 {
		place = f.unused[n-1]
		f.unused = f.unused[:n-1]
	} else {
		place = uint32(len(f.list))
		f.list = append(f.list, flight{})
	}
	f.list[place] = flight{number: number, text: text, waits: true, size: size}
	f.places[number] = place
	return place
}

// arrive gives the place to others.
func (f *flights) arrive(place uint32) {
	delete(f.places, f.list[place].number)
	f.list[place] = flight{}
	f.unused = append(f.unused, place)
}
