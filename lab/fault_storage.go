package lab

import "context"

// storagePhases are the points of pvesm, of replication and of backups at which a fault can strike.
var storagePhases = []string{"storage:add", "storage:set", "replication:sync", "backup:run"}

// exportTrouble is a fault of what a host exports; the value names the export.
func exportTrouble(what string) func(context.Context, *Lab, *host, Fault) (func() error, error) {
	return func(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
		undo, err := l.storage.Trouble(h.machine, f.Value, what)
		if err != nil {
			return nil, err
		}
		return func() error { undo(); return nil }, nil
	}
}
