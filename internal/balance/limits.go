package balance

// SetLimits puts other options in force: those of o with their defaults filled in,
// but for Aging and Seed, by which what is here already was told apart. What is
// here stays, even if it is more than now allowed; the bounds are for what comes.
func (s *State) SetLimits(o Options) {
	o = o.withDefaults()
	o.Aging, o.Seed = s.opt.Aging, s.opt.Seed
	s.opt = o
}
