// Package cli is pxrun's command line: it reads arguments, environment and terminal, wires the parts together, and turns
// what they say into output and an exit code. Each command is one file: newXCommand declares flags, an XOptions struct
// holds them, runX does the work with nothing but its arguments.
package cli
