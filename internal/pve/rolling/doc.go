// Package rolling proves that a cluster can be taken down and brought back node by node. Prove simulates the whole run on one
// snapshot, a Situation: in what order the nodes go and which of them together, where every guest goes and why, what is left of
// memory and votes at each step, what stops and for how long, and what stands against it. It decides on values alone: it
// connects to nothing and reads no clock, and the same snapshot gives the same proof, in whatever order its parts are written.
//
// A proof is of the moment at which the snapshot was taken. What disturbs a node reads everything again just before.
package rolling
