package module

import (
	"encoding/json"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
)

// undoJSON is the stored form of an Undo. A function cannot be stored, so Command is reduced to what repeats it.
type undoJSON struct {
	Host     string        `json:"host"`
	Summary  string        `json:"summary"`
	Argv     []string      `json:"argv,omitempty"`
	Script   string        `json:"script,omitempty"`
	Stdin    string        `json:"stdin,omitempty"`
	Timeout  time.Duration `json:"timeout_ns,omitempty"`
	Anywhere bool          `json:"anywhere,omitempty"`
	ByHand   string        `json:"by_hand,omitempty"`
}

// MarshalJSON writes the parts that another run needs to take the change back.
func (u Undo) MarshalJSON() ([]byte, error) {
	c := u.Command
	return json.Marshal(undoJSON{u.Host, u.Summary, c.Argv, c.Script, string(c.Stdin), c.Timeout, u.Anywhere, u.ByHand})
}

// UnmarshalJSON reads them back. The command is marked as mutating, whatever it was.
func (u *Undo) UnmarshalJSON(data []byte) error {
	var j undoJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*u = Undo{Host: j.Host, Summary: j.Summary, Anywhere: j.Anywhere, ByHand: j.ByHand, Command: transport.Command{
		Argv: j.Argv, Script: j.Script, Mutates: true, Timeout: j.Timeout,
	}}
	if j.Stdin != "" {
		u.Command.Stdin = []byte(j.Stdin)
	}
	return nil
}
