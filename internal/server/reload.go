package server

// Reload puts limits of o in force: those of Dispatch.Balance but for its Aging, and
// RPC's of principals and addresses but for the number of connections. What is here
// already stays, even where it is more than now allowed. Nothing changes when
// o.Dispatch is wrong. It may be called while the Server runs, and does not block.
func (s *Server) Reload(o Options) error {
	if err := s.dispatch.SetLimits(o.Dispatch); err != nil {
		return err
	}
	s.rpc.SetLimits(o.RPC.PrincipalLimits, o.RPC.AddressLimits)
	return nil
}
