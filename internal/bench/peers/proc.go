package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU time in /proc.
const tick = 10 * time.Millisecond

// usage is what a process and its descendants have used: CPU time so far, and
// the most memory that any one of them ever had.
type usage struct {
	CPU  time.Duration
	Peak uint64
}

// use reads the usage of the children from /proc.
func use(children ...*process) (usage, error) {
	of, err := family()
	if err != nil {
		return usage{}, err
	}
	var sum usage
	for _, p := range children {
		if err := sum.add(of, p.cmd.Process.Pid); err != nil {
			return usage{}, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return sum, nil
}

func (u *usage) add(of map[int][]int, pid int) error {
	fields, err := stat(pid)
	if err != nil {
		return err
	}
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		if err != nil {
			return err
		}
		u.CPU += time.Duration(n) * tick
	}
	u.Peak = max(u.Peak, peak(pid))
	for _, child := range of[pid] {
		_ = u.add(of, child) // it may have ended meanwhile
	}
	return nil
}

// family returns who is whose child.
func family() (map[int][]int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	of := map[int][]int{}
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			return nil, err
		}
		fields, err := stat(pid)
		if err != nil {
			continue // it has ended
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			return nil, err
		}
		of[parent] = append(of[parent], pid)
	}
	return of, nil
}

// stat returns the fields of a process from its state on: what is before may
// hold spaces.
func stat(pid int) ([]string, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 13 {
		return nil, fmt.Errorf("process %d has %d fields", pid, len(fields))
	}
	return fields, nil
}

// peak is VmHWM in bytes; 0 when it is not known.
func peak(pid int) uint64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(raw)) {
		if f := strings.Fields(l); len(f) > 1 && f[0] == "VmHWM:" {
			kib, _ := strconv.ParseUint(f[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}
