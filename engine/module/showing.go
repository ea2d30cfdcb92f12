package module

// Showing is something to be read: tables with sentences around them for people, and the same as data for programs. It
// appears in plans, in --json and in reports.
type Showing struct {
	Title string `json:"title"`
	// Lead are sentences before the tables, Notes those after: what may change until then, where numbers are from.
	Lead   []string `json:"lead,omitempty"`
	Tables []Table  `json:"tables,omitempty"`
	Notes  []string `json:"notes,omitempty"`
	// Data is what the tables were made of; it must be JSON-able.
	Data any `json:"data,omitempty"`
}

// Table is a part of a Showing. Every row has as many cells as there are columns.
type Table struct {
	Title   string     `json:"title,omitempty"`
	Columns []Column   `json:"columns"`
	Rows    [][]string `json:"rows"`
	// Marks draws attention to rows, by their index: "warn" or "block".
	Marks map[int]string `json:"marks,omitempty"`
}

// Column is the heading of a column. Right says that its cells are numbers.
type Column struct {
	Name  string `json:"name"`
	Right bool   `json:"right,omitempty"`
}
