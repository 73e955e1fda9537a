package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/pflag"
)

// Peers are the balancers that a command serves at the same time, which are known
// and told who we are in the same way.
type Peers struct {
	Peer // without a Target
	// Targets are the balancers' addresses.
	Targets []string
}

// AddFlags binds what Peer.AddFlags does, with a --balancer that may be repeated.
func (p *Peers) AddFlags(f *pflag.FlagSet) {
	f.StringSliceVarP(&p.Targets, "balancer", "b", []string{DefaultBalancer}, "the balancer's `HOST:PORT`; may be repeated, to serve several balancers")
	p.addAccess(f)
}

// Check returns what is wrong with the addresses, in the words of the command
// line.
func (p *Peers) Check() error {
	if len(p.Targets) == 0 {
		return fmt.Errorf("--balancer: no address is given; give one such as %s", DefaultBalancer)
	}
	for i, target := range p.Targets {
		if err := CheckTarget(target); err != nil {
			return fmt.Errorf("--balancer: %w", err)
		}
		if slices.Contains(p.Targets[:i], target) {
			return fmt.Errorf("--balancer: %s is given twice; give each balancer once", target)
		}
	}
	return nil
}

// Each returns the balancers, each to be dialled on its own.
func (p *Peers) Each() []*Peer {
	var each []*Peer
	for _, target := range p.Targets {
		one := p.Peer
		one.Target = target
		each = append(each, &one)
	}
	return each
}
