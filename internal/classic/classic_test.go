package classic

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// play has events logged to a handler and returns what a terminal shows.
func play(o Options, say func(*slog.Logger)) string {
	var b bytes.Buffer
	say(slog.New(New(&b, o)))
	return b.String()
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if want = strings.TrimPrefix(want, "\n"); got != want {
		t.Errorf("the terminal shows\n%s\nand not\n%s", got, want)
	}
}

func TestLoadBalancerLines(t *testing.T) {
	expect(t, play(Options{}, func(log *slog.Logger) {
		log.Info("listening for clients", "address", "127.0.0.1:8888")
		log.Info("listening for workers", "address", "127.0.0.1:8889")
		log.Debug("worker connected", "remote", "127.0.0.1:40112")
		log.Info("worker registered", "worker_id", "worker_abc123", "remote", "127.0.0.1:40112")
		conn := log.With("remote", "127.0.0.1:40114")
		conn.Debug("client connected")
		conn.Debug("task received", "task_id", "task_xyz789", "balancer_task_id", "text.0a1b2c3d.1.1.task_xyz789")
		log.Debug("task assigned", "task_id", "task_xyz789", "worker_id", "worker_abc123", "attempt", 1)
		log.Debug("result received", "task_id", "task_xyz789")
		log.Debug("result sent", "task_id", "task_xyz789")
		conn.Warn("malformed message", "line", "HELLO|x", "problem", "unknown kind")
		log.Debug("no worker available", "task_id", "task_xyz789")
	}), `
[LOAD BALANCER] Iniciado en localhost
[LOAD BALANCER] Escuchando clientes en puerto 8888
[LOAD BALANCER] Escuchando workers en puerto 8889
[LOAD BALANCER] Worker conectado desde ('127.0.0.1', 40112)
[LOAD BALANCER] Worker registrado: worker_abc123 desde ('127.0.0.1', 40112)
[LOAD BALANCER] Cliente conectado desde ('127.0.0.1', 40114)
[LOAD BALANCER] Tarea recibida: task_xyz789 de ('127.0.0.1', 40114)
[LOAD BALANCER] Tarea task_xyz789 asignada a worker worker_abc123
[LOAD BALANCER] Resultado recibido para tarea task_xyz789
[LOAD BALANCER] Resultado enviado al cliente para tarea task_xyz789
[LOAD BALANCER] Formato de mensaje inválido: HELLO|x
[LOAD BALANCER] No hay workers disponibles para tarea task_xyz789
`)
}

func TestWorkerLines(t *testing.T) {
	expect(t, play(Options{Role: Worker, WorkerID: "worker_abc123"}, func(log *slog.Logger) {
		log = log.With("worker_id", "worker_abc123")
		log.Info("connected", "address", "localhost:8889")
		log.Debug("registering")
		log.Info("registered", "session_id", "s")
		log.Debug("ready")
		log.Debug("task received", "task_id", "task_xyz789", "function", "sum", "payload", "1,2,3,4,5")
		log.Debug("sum computed", "task_id", "task_xyz789", "numbers", "[1, 2, 3, 4, 5]", "result", "15")
		log.Debug("result sent", "task_id", "task_xyz789")
		log.Debug("task failed", "task_id", "t", "error", errors.New("invalid literal for int() with base 10: 'abc'"))
		log.Warn("connection lost", "error", errors.New("EOF"))
		log.Info("disconnected")
	}), `
[WORKER worker_abc123] Conectado al balanceador en localhost:8889
[WORKER worker_abc123] Registrado como disponible
[WORKER worker_abc123] Registro confirmado por balanceador
[WORKER worker_abc123] Listo para procesar tareas
[WORKER worker_abc123] Tarea recibida: task_xyz789, datos: 1,2,3,4,5
[WORKER worker_abc123] Tarea procesada: suma de [1, 2, 3, 4, 5] = 15
[WORKER worker_abc123] Resultado enviado para tarea task_xyz789
[WORKER worker_abc123] Error procesando tarea: invalid literal for int() with base 10: 'abc'
[WORKER worker_abc123] Conexión cerrada: EOF
[WORKER worker_abc123] Desconectado
`)
}

func TestClientLines(t *testing.T) {
	expect(t, play(Options{Role: Client}, func(log *slog.Logger) {
		log.Debug("connected", "address", "localhost:8888")
		log.Debug("task sent", "task_id", "task_xyz789", "payload", []byte("1,2,3,4,5"))
		log.Debug("result received", "task_id", "task_xyz789", "result", []byte("15"))
		log.Debug("disconnected")
		log.Debug("summary", "results", []string{"15", "ERROR: no"}, "omitted", 0)
		log.Debug("summary", "results", []string{"15"}, "omitted", 2)
		log.Error("no connection", "error", "refused")
	}), `
[CLIENT] Conectado al balanceador en localhost:8888
[CLIENT] Enviando tarea task_xyz789: 1,2,3,4,5
[CLIENT] Resultado recibido para tarea task_xyz789: 15
[CLIENT] Desconectado
[CLIENT] Resumen de resultados:
  Tarea 1: 15
  Tarea 2: ERROR: no
[CLIENT] Resumen de resultados:
  Tarea 1: 15
  (y 2 más)
[CLIENT] No se pudo conectar al balanceador. Asegúrese de que esté corriendo.
`)
}

func TestWhatIsNoEventIsShownFromWarnOn(t *testing.T) {
	expect(t, play(Options{}, func(log *slog.Logger) {
		log.Info("queue is half full")
		log.Debug("listening for gRPC", "address", "127.0.0.1:9090")
		log.WithGroup("q").With("limit", 5).Warn("queue is full", "function", "sum", slog.Group("g", "n", 1), "why", "a \"b\"", "empty", "")
		log.Error("it broke", "error", errors.New("line one\nline two"))
	}), `
[LOAD BALANCER] queue is full q.function=sum q.g.n=1 q.why="a \"b\"" q.empty="" q.limit=5
[LOAD BALANCER] it broke error="line one\nline two"
`)
}

// An event of a text client or worker is told by the adapter, and by the
// balancer too, which knows it under the adapter's ids.
func TestTheAdaptersIDsAreShownAsTheirPeersChoseThem(t *testing.T) {
	const task, worker = "text.0a1b2c3d.12.345.task_x.y", "w_1@127.0.0.1:5.0a1b2c3d.7"
	expect(t, play(Options{}, func(log *slog.Logger) {
		log.Debug("task received", "task_id", task, "remote", "pipe")
		// To a text worker: the adapter tells, with the ids of its peers.
		log.Debug("task assigned", "task_id", task, "worker_id", worker)
		log.Debug("task assigned", "task_id", "task_x.y", "worker_id", "w@1", "balancer_task_id", task)
		log.Debug("result received", "task_id", task, "worker_id", worker)
		// To another: the balancer does.
		log.Debug("task assigned", "task_id", task, "worker_id", "grpc-1")
		log.Debug("result received", "task_id", task, "worker_id", "grpc-1")
		log.Debug("result sent", "task_id", task)
		log.Info("worker registered", "worker_id", worker, "remote", "pipe")
		// Not the adapter's, for all that they look like it.
		log.Debug("result sent", "task_id", "text.0a1b2c3d.12.x.y")
		log.Info("worker registered", "worker_id", "me@host.example", "remote", "[::1]:7")
	}), `
[LOAD BALANCER] Tarea task_x.y asignada a worker w@1
[LOAD BALANCER] Tarea task_x.y asignada a worker grpc-1
[LOAD BALANCER] Resultado recibido para tarea task_x.y
[LOAD BALANCER] Resultado enviado al cliente para tarea text.0a1b2c3d.12.x.y
[LOAD BALANCER] Worker registrado: me@host.example desde ('::1', 7, 0, 0)
`)
}

func TestNothingForgesALine(t *testing.T) {
	got := play(Options{Role: Worker, WorkerID: "w"}, func(log *slog.Logger) {
		log.Debug("task received", "task_id", "t", "payload", "1\n[WORKER w] Desconectado\x1b[2J\xff\uFFFDñ")
	})
	expect(t, got, "[WORKER w] Tarea recibida: t, datos: 1\\n[WORKER w] Desconectado\\x1b[2J\\xff\uFFFDñ\n")
}

func TestHostIsShownAsItIsUnlessLoopback(t *testing.T) {
	for address, want := range map[string]string{"[::1]:1": "localhost", "10.0.0.7:1": "10.0.0.7", "[::]:1": "::", "odd": "odd"} {
		got := play(Options{}, func(log *slog.Logger) { log.Info("listening for workers", "address", address) })
		if !strings.HasPrefix(got, "[LOAD BALANCER] Iniciado en "+want+"\n") {
			t.Errorf("%s becomes %q", address, got)
		}
	}
}
