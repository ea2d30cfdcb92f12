# Two nodes and an arbiter that belongs to no cluster. Two runbooks in one file: name the one to run.
#
#   pxrun plan check -i examples/two-nodes-qdevice --lab
#   pxrun apply form -i examples/two-nodes-qdevice --lab

cluster "pair" {
  node "left" {
    address = "192.0.2.21"
    links   = ["10.0.3.1"]
  }
  node "right" {
    address = "192.0.2.22"
    links   = ["10.0.3.2"]
  }
}

host "arbiter" { address = "192.0.2.50" }

runbook "check" {
  description = "Are the nodes fit for a cluster?"
  cluster     = cluster.pair

  task "preflight" "ready" {
    min_links = 1
  }
}

runbook "form" {
  description = "Make them one."
  cluster     = cluster.pair

  task "preflight" "ready" {}

  task "cluster_create" "form" {
    name = "pair"
  }

  task "node_join" "members" {
    nodes = cluster.pair.nodes
  }

  task "command" "arbiter" {
    hosts = host.arbiter
    run   = "logger 'the pair has formed'"
    when  = task.members.changed
  }
}
