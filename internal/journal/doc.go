// Package journal keeps what runs did: one folder for each run under the state folder, with its invocation, an
// append-only journal of events, a log for each host, the approved plan, and values that were shown only once. Every
// event has passed the bus, so nothing in a journal is secret; kept values are, and only their owner may read them.
//
//	runs/<id>/meta.json      the invocation and, once it is over, how the run ended
//	runs/<id>/journal.jsonl  one event a line
//	runs/<id>/hosts/<h>.log  commands and output of a host
//	runs/<id>/plan.json      the plan that was approved
//	runs/<id>/kept/<name>    values that were shown only once, mode 0600
//	runs/<id>/lock           held by the process that is at it
//
// A journal is the truth about a run and never about a cluster: resume reads the cluster again.
package journal
