// HeirFlow's alerts and board, in the layout of https://monitoring.mixins.dev: import this file into your own Jsonnet, and change
// what is below `_config`. Who uses no Jsonnet takes what is rendered from it: ../prometheus and ../grafana.
(import 'config.libsonnet') +
(import 'alerts/alerts.libsonnet') +
(import 'dashboards/dashboards.libsonnet')
