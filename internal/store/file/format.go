package file

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// format is the version of the layout in keys.go. To change the layout: raise
// it, and add to upgrades what makes the old layout the new one.
const format = 1

// upgrades[n] makes format n+1 of format n, in one batch that it does not
// commit.
var upgrades = map[uint64]func(*pebble.DB, *pebble.Batch) error{}

// checkFormat writes the format into a new database, upgrades an older one, and
// refuses a newer one.
func checkFormat(db *pebble.DB) error {
	has, err := storedFormat(db)
	if err != nil {
		return err
	}
	if has == 0 {
		return db.Set([]byte(versionKey), binary.AppendUvarint(nil, format), pebble.Sync)
	}
	if has > format {
		return fmt.Errorf("reparto-data is of format %d, this balancer knows up to %d: use a newer balancer", has, format)
	}
	for ; has < format; has++ {
		if err := upgrade(db, has); err != nil {
			return fmt.Errorf("upgrade reparto-data from format %d to %d: %w", has, has+1, err)
		}
	}
	return nil
}

// upgrade makes one step, so that an interrupted one starts again from where it
// was.
func upgrade(db *pebble.DB, from uint64) error {
	step := upgrades[from]
	if step == nil {
		return errors.New("this balancer does not know how; use the one that wrote it")
	}
	b := db.NewBatch()
	defer func() { _ = b.Close() }() // nothing that matters fails after the commit
	if err := step(db, b); err != nil {
		return err
	}
	if err := b.Set([]byte(versionKey), binary.AppendUvarint(nil, from+1), nil); err != nil {
		return err
	}
	return b.Commit(pebble.Sync)
}

// storedFormat is 0 in a database that has none: a new one.
func storedFormat(db *pebble.DB) (uint64, error) {
	v, closer, err := db.Get([]byte(versionKey))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the format of reparto-data: %w", err)
	}
	defer closer.Close()
	n, size := binary.Uvarint(v)
	if size <= 0 || n == 0 {
		return 0, fmt.Errorf("the format of reparto-data is %x, which is no number: the data is damaged", v)
	}
	return n, nil
}
