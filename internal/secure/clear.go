package secure

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
)

// Port is where something listens.
type Port struct {
	// Name and Flag say which one it is, such as "gRPC" and "--grpc".
	Name, Flag string
	// Address is what was asked for, and Addr what is bound, so that no name has to
	// be looked up.
	Address string
	Addr    net.Addr
	// TLS says that it speaks TLS.
	TLS bool
	// Remedy are the flags that would make it speak TLS.
	Remedy string
}

// At is p at another place; a nil addr is a port that is off.
func (p Port) At(name, flag, address string, addr net.Addr) Port {
	p.Name, p.Flag, p.Address, p.Addr = name, flag, address, addr
	return p
}

// CheckPorts holds ports against the rule: what listens for other machines
// speaks TLS, unless insecure is set, and then the log has a warning that names
// the ports. The error is in the words of the command line.
func CheckPorts(ports []Port, insecure bool, log *slog.Logger) error {
	var open, remedies []string
	for _, p := range ports {
		if p.TLS || p.Addr == nil || isLoopback(p.Addr) {
			continue
		}
		open = append(open, p.String())
		if len(remedies) == 0 || remedies[len(remedies)-1] != p.Remedy {
			remedies = append(remedies, p.Remedy)
		}
	}
	switch {
	case len(open) == 0:
		return nil
	case insecure:
		log.Warn("listening without TLS where other machines can connect: whoever is between can read and change what passes", "ports", strings.Join(open, ", "))
		return nil
	}
	return fmt.Errorf("%s: other machines can connect there, and without TLS whoever is between can read and change what passes: give %s; or listen on localhost; or allow it with --insecure",
		strings.Join(open, ", "), strings.Join(remedies, "; "))
}

// String tells people which port it is.
func (p Port) String() string {
	host, _, err := net.SplitHostPort(p.Address)
	if err != nil || host == "" || net.ParseIP(host) != nil {
		return fmt.Sprintf("%s %s (%s)", p.Flag, p.Address, p.Name)
	}
	return fmt.Sprintf("%s %s (%s, which is %v)", p.Flag, p.Address, p.Name, p.Addr)
}

// isLoopback says that no other machine reaches the address.
func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback() || a.Network() == "unix" || a.Network() == "bufconn"
}

// LoopbackTarget says of the address of a balancer that what is sent there stays
// on this machine. Names other than localhost are not looked up: who answers
// for them may change.
func LoopbackTarget(target string) bool {
	for _, local := range []string{"unix:", "unix-abstract:"} {
		if strings.HasPrefix(target, local) {
			return true
		}
	}
	for _, scheme := range []string{"dns:", "passthrough:"} {
		if rest, ok := strings.CutPrefix(target, scheme); ok {
			target = rest
			if rest, ok := strings.CutPrefix(target, "//"); ok { // an authority, then the address
				_, target, _ = strings.Cut(rest, "/")
			}
			break
		}
	}
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		host = target
	}
	return strings.EqualFold(host, "localhost") || net.ParseIP(strings.Trim(host, "[]")).IsLoopback()
}
