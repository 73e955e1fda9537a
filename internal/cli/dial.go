package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"reparto/internal/secure"
	"reparto/worker"
)

// DefaultBalancer is where a balancer is unless told otherwise.
const DefaultBalancer = "localhost:9090"

// CheckTarget returns what is wrong with the address of a balancer: it is
// HOST:PORT, or anything with a scheme that gRPC knows, such as
// unix:/run/reparto.sock or dns:///balancer.example:9090.
func CheckTarget(target string) error {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "unix:") {
		return nil
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("the balancer's address %q is not HOST:PORT; give one such as %s", target, DefaultBalancer)
	}
	return nil
}

// Peer is the balancer that a command talks to: the flags that say where it is,
// how it is recognised, and by what it knows us.
type Peer struct {
	// Target is the balancer's address.
	Target string
	// Insecure allows a token to pass in the clear.
	Insecure bool

	tls       secure.ClientOptions
	tokenFile string
	client    *secure.Client // once it is dialled
}

// AddFlags binds --balancer, --tls and what belongs to it, --token-file and
// --insecure. The token itself is in the variable REPARTO_TOKEN or in a file:
// other users of the machine can see a command line.
func (p *Peer) AddFlags(f *pflag.FlagSet) {
	f.StringVarP(&p.Target, "balancer", "b", DefaultBalancer, "the balancer's `HOST:PORT`")
	p.addAccess(f)
}

// addAccess binds all but the address.
func (p *Peer) addAccess(f *pflag.FlagSet) {
	p.tls.AddFlags(f)
	f.StringVar(&p.tokenFile, "token-file", "", "show the token in this `FILE` with each call; read again when it changes (or put the token into $"+TokenVariable+")")
	f.BoolVar(&p.Insecure, "insecure", false, "allow in the clear, between machines, what others could read there")
}

// Check returns what is wrong with the balancer's address, in the words of the
// command line.
func (p *Peer) Check() error {
	if err := CheckTarget(p.Target); err != nil {
		return fmt.Errorf("--balancer: %w", err)
	}
	return nil
}

// Dial returns a connection to the balancer, which the caller closes. It does
// not block: the connection is made when it is needed. log is told when files
// are read; nil is nobody. What more says wins over the usual. Errors are those of
// the command line.
func (p *Peer) Dial(log *slog.Logger, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	if err := p.Check(); err != nil {
		return nil, Exit(Usage, err)
	}
	var err error
	if p.client, err = secure.OpenClient(p.tls, log); err != nil {
		return nil, Exit(Usage, err)
	}
	options := worker.DialOptions(p.client.Credentials())
	t, err := openToken(p.tokenFile, os.Getenv(TokenVariable), log)
	if err != nil {
		return nil, Exit(Usage, err)
	}
	if t != nil {
		t.secure = p.tls.Enabled()
		if !t.secure && !p.Insecure && !secure.LoopbackTarget(p.Target) {
			return nil, Usagef("a token is set (by %s), and would pass in the clear to %s, where others can read it: give --tls or --tls-ca FILE, or allow it with --insecure", t.from, p.Target)
		}
		options = append(options, grpc.WithPerRPCCredentials(t))
	}
	conn, err := grpc.NewClient(p.Target, append(options, more...)...)
	if err != nil {
		return nil, Usagef("the balancer's address %q: %w", p.Target, err)
	}
	return conn, nil
}

// Refused returns why the TLS handshake with the balancer can't succeed, with
// its exit code; nil while there is hope.
func (p *Peer) Refused() error {
	if r := p.client.Refused(); r != nil {
		return Exit(NoConnection, r)
	}
	return nil
}

// Guard calls run with a context that ends with ctx, or when it turns out that
// TLS with the balancer can't succeed, of which Guard then returns the reason.
// Once the balancer was reached, a handshake that fails is only one of the
// troubles that pass. conn is what Dial returned.
func (p *Peer) Guard(ctx context.Context, conn *grpc.ClientConn, run func(ctx context.Context) error) error {
	guarded, end := context.WithCancel(ctx)
	defer end()
	var refused error
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			state := conn.GetState() // each of the balancer's addresses was tried by then
			if state == connectivity.TransientFailure {
				if refused = p.Refused(); refused != nil {
					end()
					return
				}
			}
			if !conn.WaitForStateChange(guarded, state) {
				return
			}
		}
	})
	err := run(guarded)
	end()
	watching.Wait()
	if refused != nil {
		return errors.Join(refused, err)
	}
	return err
}
