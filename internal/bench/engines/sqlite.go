package main

import (
	"database/sql"
	"errors"
	"path/filepath"

	_ "modernc.org/sqlite"
)

// sqliteEngine is a table with an index by state and one by when to forget, in
// WAL mode with a full sync of every transaction.
type sqliteEngine struct {
	db                                    *sql.DB
	insert, update, done, drop, one, page *sql.Stmt
}

func openSQLite(dir string) (engine, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "tasks.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	e := &sqliteEngine{db: db}
	_, err = db.Exec(`CREATE TABLE tasks (id TEXT PRIMARY KEY, finished INTEGER NOT NULL, state BLOB, payload BLOB, forget_at INTEGER) WITHOUT ROWID;
		CREATE INDEX by_state ON tasks (finished, id);
		CREATE INDEX by_forget ON tasks (forget_at) WHERE forget_at IS NOT NULL`)
	prepare := func(to **sql.Stmt, text string) {
		if err == nil {
			*to, err = db.Prepare(text)
		}
	}
	prepare(&e.insert, "INSERT INTO tasks (id, finished, state, payload) VALUES (?, 0, ?, ?)")
	prepare(&e.update, "UPDATE tasks SET state = ? WHERE id = ?")
	prepare(&e.done, "UPDATE tasks SET state = ?, finished = 1, forget_at = ? WHERE id = ?")
	prepare(&e.drop, "DELETE FROM tasks WHERE id = ?")
	prepare(&e.one, "SELECT state, payload FROM tasks WHERE id = ?")
	prepare(&e.page, "SELECT id FROM tasks WHERE finished = 1 AND id < ? ORDER BY id DESC LIMIT 100")
	return e, err
}

func (e *sqliteEngine) write(tasks []row, s *sql.Stmt, args func(t *row) []any) error {
	tx, err := e.db.Begin()
	if err != nil {
		return err
	}
	in := tx.Stmt(s)
	for i := range tasks {
		if _, err := in.Exec(args(&tasks[i])...); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

func (e *sqliteEngine) accept(tasks []row) error {
	return e.write(tasks, e.insert, func(t *row) []any { return []any{t.id, t.state, t.payload} })
}

func (e *sqliteEngine) run(tasks []row) error {
	return e.write(tasks, e.update, func(t *row) []any { return []any{t.state, t.id} })
}

func (e *sqliteEngine) finish(tasks []row) error {
	return e.write(tasks, e.done, func(t *row) []any { return []any{t.state, int64(t.forgetAt), t.id} })
}

func (e *sqliteEngine) forget(tasks []row) error {
	return e.write(tasks, e.drop, func(t *row) []any { return []any{t.id} })
}

func (e *sqliteEngine) get(id string) error {
	var state, payload []byte
	return e.one.QueryRow(id).Scan(&state, &payload)
}

func (e *sqliteEngine) list(before string) (string, error) {
	if before == "" {
		before = "~"
	}
	found, err := e.page.Query(before)
	if err != nil {
		return "", err
	}
	next := ""
	for found.Next() {
		if err := found.Scan(&next); err != nil {
			return "", errors.Join(err, found.Close())
		}
	}
	return next, errors.Join(found.Err(), found.Close())
}

func (e *sqliteEngine) close() error { return e.db.Close() }
