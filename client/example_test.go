package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"reparto/client"
	"reparto/internal/dispatch"
	"reparto/internal/rpc"
	"reparto/internal/store/memory"
	"reparto/worker"
)

func ExampleClient_Submit() {
	address, stop := startReparto()
	defer stop()

	c, err := client.Dial(address)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	out, err := c.Submit(context.Background(), client.Task{Function: "upper", Payload: []byte("hola")})
	fmt.Println(string(out.Result), err)

	_, err = c.Submit(context.Background(), client.Task{Function: "upper"})
	if failed, ok := errors.AsType[*client.TaskError](err); ok {
		fmt.Println(failed.Reason, failed.Message)
	}
	// Output:
	// HOLA <nil>
	// HANDLER_ERROR nothing to do
}

func ExampleClient_SubmitFunc() {
	address, stop := startReparto()
	defer stop()

	c, err := client.Dial(address)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	words := []string{"many", "in", "flight"}
	results := make([]string, len(words))
	var done sync.WaitGroup
	for i, word := range words {
		done.Add(1)
		c.SubmitFunc(context.Background(), client.Task{Function: "upper", Payload: []byte(word)}, func(out client.Outcome, err error) {
			defer done.Done()
			results[i] = string(out.Result)
		})
	}
	done.Wait()
	fmt.Println(strings.Join(results, " "))
	// Output: MANY IN FLIGHT
}

func ExampleClient_Enqueue() {
	address, stop := startReparto()
	defer stop()

	c, err := client.Dial(address)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	id, err := c.Enqueue(context.Background(), client.DurableTask{Function: "upper", Payload: []byte("hola"), MaxAttempts: 5})
	if err != nil {
		log.Fatal(err)
	}
	// From here on the task is safe. Whoever knows its id, in any program, can wait
	// for its outcome.
	out, err := c.Wait(context.Background(), id)
	fmt.Println(string(out.Result), err)

	info, err := c.Get(context.Background(), id)
	fmt.Println(info.State, len(info.Attempts), err)
	// Output:
	// HOLA <nil>
	// SUCCEEDED 1 <nil>
}

// startReparto runs a balancer and a worker in this process.
func startReparto() (address string, stop func()) {
	d, err := dispatch.Open(dispatch.Options{Store: memory.New()})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := rpc.NewServer(d, rpc.Options{})
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	ctx, leave := context.WithCancel(context.Background())
	var running, working sync.WaitGroup
	running.Go(func() {
		if err := s.Serve(l); err != nil {
			log.Print(err)
		}
	})
	working.Go(func() {
		err := worker.Run(ctx, conn, worker.Handlers{"upper": func(_ context.Context, t worker.Task) ([]byte, error) {
			if len(t.Payload) == 0 {
				return nil, errors.New("nothing to do")
			}
			return []byte(strings.ToUpper(string(t.Payload))), nil
		}}, worker.Options{})
		if err != nil {
			log.Print(err)
		}
	})
	return l.Addr().String(), func() {
		leave()
		working.Wait() // its results have been delivered
		conn.Close()
		s.Close()
		d.Close()
		running.Wait()
	}
}
