package auth

import "maps"

// Principals returns all of them, by name.
func (d *Directory) Principals() map[string]*Principal { return maps.Clone(d.state.Load().byName) }
