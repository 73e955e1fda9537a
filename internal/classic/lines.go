package classic

import (
	"net"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// render returns the lines of an event, none if it is one that has none, and
// whether it is an event of this role at all.
func (o *output) render(e event) (text string, known bool) {
	if o.role == LoadBalancer && e.isRepeated() {
		return "", true
	}
	switch {
	case o.role == Client && e.message == "summary":
		return o.summary(e), true
	case o.role == LoadBalancer && strings.HasPrefix(e.message, "listening for "):
		return o.listening(e)
	}
	line, known := tables[o.role][e.message]
	if !known {
		return "", false
	}
	return o.prefix + line(e) + "\n", true
}

// tables has, for each role, the events with the line that each becomes.
var tables = [...]map[string]func(event) string{
	LoadBalancer: {
		"worker connected":    func(e event) string { return "Worker conectado desde " + tuple(e.get("remote")) },
		"worker registered":   func(e event) string { return "Worker registrado: " + e.worker() + " desde " + tuple(e.get("remote")) },
		"client connected":    func(e event) string { return "Cliente conectado desde " + tuple(e.get("remote")) },
		"task received":       func(e event) string { return "Tarea recibida: " + e.task() + " de " + tuple(e.get("remote")) },
		"task assigned":       func(e event) string { return "Tarea " + e.task() + " asignada a worker " + e.worker() },
		"result received":     func(e event) string { return "Resultado recibido para tarea " + e.task() },
		"result sent":         func(e event) string { return "Resultado enviado al cliente para tarea " + e.task() },
		"malformed message":   func(e event) string { return "Formato de mensaje inválido: " + e.get("line") },
		"no worker available": func(e event) string { return "No hay workers disponibles para tarea " + e.task() },
	},
	Worker: {
		"connected":       func(e event) string { return "Conectado al balanceador en " + e.get("address") },
		"registering":     func(event) string { return "Registrado como disponible" },
		"registered":      func(event) string { return "Registro confirmado por balanceador" },
		"ready":           func(event) string { return "Listo para procesar tareas" },
		"task received":   func(e event) string { return "Tarea recibida: " + e.task() + ", datos: " + e.get("payload") },
		"sum computed":    func(e event) string { return "Tarea procesada: suma de " + e.get("numbers") + " = " + e.get("result") },
		"result sent":     func(e event) string { return "Resultado enviado para tarea " + e.task() },
		"task failed":     func(e event) string { return "Error procesando tarea: " + e.get("error") },
		"connection lost": func(e event) string { return "Conexión cerrada: " + e.get("error") },
		"disconnected":    func(event) string { return "Desconectado" },
	},
	Client: {
		"connected":       func(e event) string { return "Conectado al balanceador en " + e.get("address") },
		"task sent":       func(e event) string { return "Enviando tarea " + e.task() + ": " + e.get("payload") },
		"result received": func(e event) string { return "Resultado recibido para tarea " + e.task() + ": " + e.get("result") },
		"disconnected":    func(event) string { return "Desconectado" },
		"no connection": func(event) string {
			return "No se pudo conectar al balanceador. Asegúrese de que esté corriendo."
		},
	},
}

// listening is said of each port; the first of them also says that the balancer
// has started.
func (o *output) listening(e event) (string, bool) {
	host, port, err := net.SplitHostPort(e.get("address"))
	if err != nil {
		host, port = e.get("address"), e.get("address")
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		host = "localhost"
	}
	line := ""
	switch e.message {
	case "listening for clients":
		line = "Escuchando clientes en puerto " + port
	case "listening for workers":
		line = "Escuchando workers en puerto " + port
	default:
		return "", false
	}
	text := o.prefix + line + "\n"
	if !o.started {
		o.started = true
		text = o.prefix + "Iniciado en " + host + "\n" + text
	}
	return text, true
}

// summary lists the results of a client's run in the order of their tasks.
// `omitted` is how many there were beyond those in `results`.
func (o *output) summary(e event) string {
	var b strings.Builder
	b.WriteString(o.prefix + "Resumen de resultados:\n")
	for i, r := range e.list("results") {
		b.WriteString("  Tarea " + strconv.Itoa(i+1) + ": " + printable(r) + "\n")
	}
	if n := e.get("omitted"); n != "" && n != "0" {
		b.WriteString("  (y " + n + " más)\n")
	}
	return b.String()
}

func (e event) task() string {
	id := e.get("task_id")
	if own, ok := textTaskID(id); ok {
		return own
	}
	return id
}

func (e event) worker() string {
	id := e.get("worker_id")
	if own, ok := textWorkerID(id); ok {
		return own
	}
	return id
}

// tuple writes an address as Python prints one: ('127.0.0.1', 40112), and with
// flow and scope for IPv6.
func tuple(remote string) string {
	host, port, err := net.SplitHostPort(remote)
	if err != nil {
		return "('" + remote + "', 0)"
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return "('" + host + "', " + port + ", 0, 0)"
	}
	return "('" + host + "', " + port + ")"
}

// printable keeps text on its line: what is not printable is escaped, so that
// no payload drives a terminal or forges a line.
func printable(s string) string {
	clean := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
	if strings.IndexFunc(s, clean) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[i]), 16))
		case r != utf8.RuneError && clean(r):
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
