package module

import "time"

// Record is something that a module has measured or done and that belongs into the report of the run. It is one of the types
// below; Kind names it in --json and in the journal.
type Record interface{ Kind() string }

type (
	// Moved is a guest that changed its node, or failed to.
	Moved struct {
		Guest string `json:"guest"` // "vm 100 (web01)"
		From  string `json:"from"`
		To    string `json:"to"`
		// Way is live, offline, restart (of a container) or ha (by the HA manager, whatever way it took).
		Way string `json:"way"`
		// Why is the reason for the move: drain, return.
		Why   string        `json:"why"`
		Took  time.Duration `json:"took_ns"`
		Error string        `json:"error,omitempty"`
	}
	// Downtime is how long a guest did not run, or did not answer.
	Downtime struct {
		Guest string `json:"guest"`
		// How is live (the freeze at the end of a live migration, from the migration's log), restarted or stopped.
		How  string        `json:"how"`
		Took time.Duration `json:"took_ns"`
		// Least says that it is still down: Took is how long it has been so far.
		Least bool `json:"least,omitempty"`
	}
	// Votes is a reading of the quorum.
	Votes struct {
		Present  int `json:"present"`
		Needed   int `json:"needed"`
		Expected int `json:"expected"`
		// Device is the votes of the QDevice among Present.
		Device int `json:"device,omitempty"`
	}
	// Reading is what a gate saw.
	Reading struct {
		Gate string `json:"gate"`
		Saw  string `json:"saw"`
		Want string `json:"want,omitempty"`
		OK   bool   `json:"ok"`
		// Override is the argument that let it pass although it said no, and Who set it, if that is known.
		Override string `json:"override,omitempty"`
		Who      string `json:"who,omitempty"`
	}
	// Version is a package, or the running kernel ("kernel"), before and after.
	Version struct {
		Package string `json:"package"`
		Before  string `json:"before,omitempty"` // "" for a new one
		After   string `json:"after,omitempty"`  // "" for one that went
	}
	// Phase is a stretch of time on a host: drain, upgrade, reboot, verify, release, soak. It is recorded at its end.
	Phase struct {
		Name string        `json:"name"`
		Took time.Duration `json:"took_ns"`
	}
	// KeptFile is a configuration file that a package wanted to replace and that was kept, with the new one beside it.
	KeptFile struct {
		Path string `json:"path"`
		New  string `json:"new"`
	}
)

// Kind names the record.
func (Moved) Kind() string    { return "moved" }
func (Downtime) Kind() string { return "downtime" }
func (Votes) Kind() string    { return "votes" }
func (Reading) Kind() string  { return "reading" }
func (Version) Kind() string  { return "package_version" }
func (Phase) Kind() string    { return "phase" }
func (KeptFile) Kind() string { return "kept_file" }
