package dispatch

import "fmt"

// SetLimits puts the limits of o.Balance in force, but for its Aging. Nothing
// changes when o as a whole is wrong. What was accepted before stays.
func (d *Dispatcher) SetLimits(o Options) error {
	o, err := o.validate()
	if err != nil {
		return fmt.Errorf("dispatch options: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state.SetLimits(o.Balance)
	d.opt.Balance = d.state.Options()
	return nil
}
