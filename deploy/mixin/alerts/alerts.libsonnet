{
  local page = $._config.runbookPage,
  local alert(name, expr, after, severity, summary, description) = {
    alert: name,
    expr: expr,
    [if after != null then 'for']: after,
    labels: { severity: severity },
    annotations: {
      summary: '{{ $labels.election }}: ' + summary,
      description: description,
      runbook_url: '%s#%s' % [page, std.asciiLower(name)],
    },
  },

  prometheusAlerts+:: {
    groups+: [{
      name: 'heirflow',
      rules: [
        // From the members' side, an election counts that any member spoke of within the past hour.
        alert(
          'HeirflowNoLeader',
          |||
            min by (election, seat) (heirflow_leader_up) == 0
            or
            count by (election) (last_over_time(heirflow_member_live[1h]))
              unless on (election) heirflow_member_term
              unless on (election) heirflow_members
          |||,
          '1m',
          'critical',
          'nobody leads',
          'Nobody has led {{ $labels.election }}{{ with $labels.seat }} (seat {{ . }}){{ end }} for a minute, so its command runs nowhere.',
        ),

        // Members are asked at different moments: a change of leadership can look like two for two scrapes, and not for longer.
        alert(
          'HeirflowTwoLeaders',
          |||
            sum by (election) (heirflow_member_leader) > max by (election) (heirflow_member_seats)
          |||,
          '2m',
          'critical',
          'more leaders than seats',
          '{{ $value }} members of {{ $labels.election }} have said for two minutes that they lead, which is more than there are seats.',
        ),

        alert(
          'HeirflowNoHeir',
          |||
            min by (election) (heirflow_heirs) == 0
              and on (election) heirflow_leader_up == 1
            or
            count by (election) (heirflow_member_term)
              unless on (election) heirflow_member_place == 1
              unless on (election) heirflow_heirs
          |||,
          '5m',
          'warning',
          'no heir is ready',
          '{{ $labels.election }} is led, and if its leader ends, nobody takes charge.',
        ),

        // Causes of takeovers are summed up first: a member of an older version tells none, and restarts never have one.
        alert(
          'HeirflowFlapping',
          |||
            max by (election, seat) (changes(heirflow_term[10m])) >= 4
            or
            max by (election) (heirflow_restarts_past_hour) >= 8
            or
            sum by (election) (increase(heirflow_member_takeovers_total[10m]))
              + sum by (election) (increase(heirflow_member_restarts_total[10m])) >= 4
          |||,
          null,
          'warning',
          'its command starts again and again',
          'The command of {{ $labels.election }} was started {{ $value | humanize }} times within a short time.',
        ),

        alert(
          'HeirflowLeadsNothing',
          |||
            min by (election, seat) (heirflow_leader_runs) == 0
            or
            max by (election) (heirflow_member_runs_nothing) == 1 unless on (election) heirflow_leader_runs
          |||,
          '1m',
          'critical',
          'its leader runs nothing',
          'The leader of {{ $labels.election }} has held the lead for a minute without running the command.',
        ),

        // A check-in may take 0.15 of ttl, and a healthy leader's lease always has more than half of ttl left.
        alert(
          'HeirflowRenewalSlow',
          |||
            histogram_quantile(0.95, sum by (election, instance, le) (rate(heirflow_member_check_in_seconds_bucket[10m])))
              > 0.075 * max by (election, instance) (heirflow_member_ttl_seconds)
            or
            min by (election, instance) (min_over_time(heirflow_member_lease_remaining_seconds[5m]))
              < 0.4 * max by (election, instance) (heirflow_member_ttl_seconds)
            or
            min by (election, seat) (heirflow_lease_remaining_seconds < 0.4 * heirflow_lease_seconds and heirflow_leader_up == 1)
          |||,
          '1m',
          'warning',
          'its lease is renewed late',
          'Check-ins of {{ $labels.election }}{{ with $labels.instance }} at {{ . }}{{ end }} are so slow that it may soon lose the lead.',
        ),
      ],
    }],
  },
}
