"""A balancer written as the old one is described in docs: threads, blocking sockets,
one recv(1024) a message, and no memory of what a worker is at. It is a model to
measure against, not the program itself.

usage: text_model.py CLIENT_PORT WORKER_PORT [lines]

With "lines" it does what the old one did not: it takes what one recv returned apart
at its line feeds, so that messages that come together are not lost."""

import socket
import sys
import threading

BACKLOG = 5
MOST = 1024

LINES = "lines" in sys.argv

lock = threading.Lock()
workers = []
turn = 0
clients = {}  # by the id of the task


def say(text):
    print("[LOAD BALANCER] " + text, flush=True)


def messages(conn):
    rest = b""
    while True:
        data = conn.recv(MOST)
        if not data:
            return
        if not LINES:
            yield data.decode("utf-8").strip()
            continue
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line.decode("utf-8").strip()


def serve_client(conn, address):
    global turn
    say(f"Cliente conectado desde {address}")
    for message in messages(conn):
        fields = message.split("|", 2)
        if len(fields) != 3 or fields[0] != "TASK":
            say(f"Formato de mensaje inválido: {message}")
            continue
        task, payload = fields[1], fields[2]
        say(f"Tarea recibida: {task} de {address}")
        with lock:
            clients[task] = conn
            if not workers:
                say(f"No hay workers disponibles para tarea {task}")
                continue
            worker, name = workers[turn % len(workers)]
            turn += 1
        worker.sendall(f"ASSIGN_TASK|{task}|{payload}\n".encode("utf-8"))
        say(f"Tarea {task} asignada a worker {name}")
    conn.close()


def serve_worker(conn, address):
    say(f"Worker conectado desde {address}")
    arriving = messages(conn)
    fields = next(arriving, "").split("|")
    if len(fields) != 2 or fields[0] != "REGISTER":
        conn.close()
        return
    name = fields[1]
    conn.sendall(f"ACK|{name}\n".encode("utf-8"))
    with lock:
        workers.append((conn, name))
    say(f"Worker registrado: {name} desde {address}")
    for message in arriving:
        fields = message.split("|", 2)
        if len(fields) != 3 or fields[0] != "TASK_RESULT":
            say(f"Formato de mensaje inválido: {message}")
            continue
        task, result = fields[1], fields[2]
        say(f"Resultado recibido para tarea {task}")
        with lock:
            client = clients.pop(task, None)
        if client is not None:
            client.sendall(f"RESULT|{task}|{result}\n".encode("utf-8"))
            say(f"Resultado enviado al cliente para tarea {task}")
    conn.close()


def guarded(serve, conn, address):
    try:
        serve(conn, address)
    except OSError as error:
        say(f"Conexión cerrada: {error}")


def accept(port, serve):
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(("127.0.0.1", port))
    door.listen(BACKLOG)
    while True:
        conn, address = door.accept()
        threading.Thread(target=guarded, args=(serve, conn, address), daemon=True).start()


if __name__ == "__main__":
    threading.Thread(target=accept, args=(int(sys.argv[2]), serve_worker), daemon=True).start()
    accept(int(sys.argv[1]), serve_client)
