package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"reparto/internal/functions"
	"reparto/worker"
)

// textWorker is a worker as the old ones are: one connection, one task at a
// time, one line for each message. It works until ctx ends.
func textWorker(ctx context.Context, address, id string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	fmt.Fprintf(conn, "REGISTER|%s\n", id)
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("text worker %s: %w", id, err)
		}
		fields := strings.SplitN(strings.TrimSpace(line), "|", 3)
		switch {
		case fields[0] == "ACK":
		case fields[0] == "ASSIGN_TASK" && len(fields) == 3:
			result, err := functions.Sum(ctx, worker.Task{ID: fields[1], Payload: []byte(fields[2])})
			if err != nil {
				result = []byte("ERROR: " + err.Error())
			}
			if _, err := fmt.Fprintf(conn, "TASK_RESULT|%s|%s\n", fields[1], result); err != nil {
				return fmt.Errorf("text worker %s: %w", id, err)
			}
		default:
			return errors.New("text worker " + id + ": understands no " + line)
		}
	}
}
