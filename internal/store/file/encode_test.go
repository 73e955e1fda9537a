package file

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"reparto/internal/store/storetest"
	"reparto/internal/task"
)

func TestTimesThatDoNotFitAreTheNearestThatDo(t *testing.T) {
	for _, c := range []struct{ t, want time.Time }{
		{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(0, 1<<63-1)},
		{time.Date(1000, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(0, -1<<63)},
		{storetest.Epoch, storetest.Epoch},
	} {
		if got := time.Unix(0, nanos(c.t)); !got.Equal(c.want) {
			t.Errorf("%v is kept as %v, want %v", c.t, got, c.want)
		}
	}
}

func TestAnotherEncodingIsRefused(t *testing.T) {
	var d decoder
	_, err := d.record([]byte{3, byte(task.Queued), 0}, &task.Record{}, everyPart)
	if err == nil || !strings.Contains(err.Error(), "encoding 3, this balancer knows up to 2") {
		t.Errorf("a record: %v", err)
	}
	if err := d.content([]byte{9}, &task.Task{}); err == nil || !strings.Contains(err.Error(), "encoding 9") {
		t.Errorf("a payload: %v", err)
	}
}

func TestAScanSharesWhatRecordsHaveInCommon(t *testing.T) {
	value := appendRecord(nil, storetest.Full("t", task.Queued), false)
	var d decoder
	var a, b task.Record
	for _, r := range []*task.Record{&a, &b} {
		if _, err := d.record(value, r, everyPart); err != nil {
			t.Fatal(err)
		}
	}
	if a.Durable != b.Durable {
		t.Error("two records with the same settings have two copies of them")
	}
}

// FuzzRecord: whatever bytes come, decoding ends without a panic and without
// more memory than they are worth; and what it accepts is encoded to a value
// that says the same.
func FuzzRecord(f *testing.F) {
	for state := task.Scheduled; state <= task.Expired; state++ {
		f.Add(appendRecord(nil, storetest.Full("t", state), false))
		f.Add(appendRecord(nil, storetest.Small("t", state), state.Terminal()))
	}
	f.Add([]byte{})
	f.Add([]byte{1, 2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, want := range []parts{headOnly, unlisted} {
			var d decoder
			_, _ = d.record(value, &task.Record{}, want)
		}
		var d decoder
		var r, again task.Record
		apart, err := d.record(value, &r, everyPart)
		if err != nil {
			return
		}
		first := appendRecord(nil, &r, apart)
		var d2 decoder
		apart2, err := d2.record(first, &again, everyPart)
		if err != nil || apart != apart2 {
			t.Fatalf("what was decoded is encoded to what can't be decoded: %v", err)
		}
		if second := appendRecord(nil, &again, apart2); !bytes.Equal(first, second) {
			t.Errorf("%x\n%x", first, second)
		}
	})
}

func FuzzContent(f *testing.F) {
	f.Add(appendContent(nil, &storetest.Full("t", task.Queued).Task))
	f.Add([]byte{1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, value []byte) {
		var d decoder
		var k, again task.Task
		if err := d.content(value, &k); err != nil {
			return
		}
		if err := d.content(appendContent(nil, &k), &again); err != nil {
			t.Fatal(err)
		}
		if k.Content() != again.Content() {
			t.Errorf("%+v became %+v", k, again)
		}
	})
}
