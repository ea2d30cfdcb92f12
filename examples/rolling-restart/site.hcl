# One host after the other: change, restart, look whether it is well, pause, next. The first failure stops it.

host "app1" { address = "198.51.100.31" }
host "app2" { address = "198.51.100.32" }
host "app3" { address = "198.51.100.33" }

group "app" {
  hosts = [host.app1, host.app2, host.app3]
}

runbook "restart" {
  rolling "apps" {
    over            = group.app.hosts
    max_unavailable = 1
    soak            = "100ms"

    task "file" "settings" {
      path    = "/etc/app.conf"
      content = "workers = 4\n"
    }

    task "service" "restart" {
      name  = "cron"
      state = "restarted"
      when  = task.settings.changed
    }

    task "wait_for" "well" {
      service = "cron"
      timeout = "30s"
    }
  }
}
