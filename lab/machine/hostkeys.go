package machine

func (m *Machine) installHostKeys() {}
