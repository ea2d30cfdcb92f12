# Says everything that is wrong with a cluster, and changes nothing.

runbook "health_check" {
  description = "Check the health of a cluster: quorum, links, HA, Ceph, storages, guests, what runs left behind"

  argument "ignore" {
    type        = list(string)
    default     = []
    description = "Checks that only warn"
  }

  task "health" "cluster" {
    ignore = arg.ignore
  }
}
