# Gives back nodes that a rolling run has left out of service, as far as they are well: with --limit only some of them.

runbook "release_nodes" {
  description = "Give nodes back that a run has left out of service: maintenance, noout, stopped and moved guests"

  rolling "nodes" {
    over = cluster.nodes

    task "node_healthy" "verify" {}

    task "release" "back" {}
  }
}
