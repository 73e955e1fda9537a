package balance

import "time"

// start is when every test begins.
var start = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

// find returns the entry of the task with the id, or nil.
func (s *State) find(id string) *entry {
	for _, e := range s.entries {
		if e != nil && e.task.ID == id {
			return e
		}
	}
	return nil
}
