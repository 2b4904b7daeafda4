{{/* The name that the chart of a service or of Redis gives its resources in this release. Takes [context, chart]. */}}
{{- define "shop.nameOf" -}}
{{- include "workload.fullnameOf" (dict "release" (first .).Release.Name "name" (last .) "override" "") -}}
{{- end }}

{{/* The Secret of the lock Redis, as the services are told by default; nothing where they are given a server instead. */}}
{{- define "shop.redisSecret" -}}
{{- if not (or (.Values.externalRedis).host (.Values.externalRedis).uri) -}}
{{- .Values.global.lockRedis.existingSecret | default (include "shop.nameOf" (list . "redis")) -}}
{{- end -}}
{{- end }}

{{/* Both services must use one lock Redis, and find each other; what would break that is refused. */}}
{{- define "shop.validate" -}}
{{- range $service := list "order" "invoice" -}}
{{- if (index $.Values $service "redis").enabled -}}
{{- fail (printf "%s.redis.enabled: the services must share one lock Redis; it is redis.enabled of this chart" $service) -}}
{{- end -}}
{{- end -}}
{{- $order := mustDeepCopy .Values.order.externalRedis -}}
{{- $invoice := mustDeepCopy .Values.invoice.externalRedis -}}
{{- if ne (toJson $order) (toJson $invoice) -}}
{{- fail "order.externalRedis and invoice.externalRedis differ: the services must share one lock Redis, or the lock protects nothing (global.lockRedis sets both)" -}}
{{- end -}}
{{- if and .Values.invoice.auth.required (not .Values.order.invoice.tokenSecret) -}}
{{- fail "invoice.auth.required needs order.invoice.tokenSecret: the order service could not call the invoice service" -}}
{{- end -}}
{{- include "shop.validateRedis" . -}}
{{- include "shop.validateBackup" . -}}
{{- $url := printf "http://%s:%v" (include "workload.fullname" .Subcharts.invoice) .Values.invoice.service.port -}}
{{- if ne (tpl .Values.order.invoice.url .) $url -}}
{{- fail (printf "order.invoice.url is %s, but the invoice service answers at %s: set order.invoice.url=%s" (tpl .Values.order.invoice.url .) $url $url) -}}
{{- end -}}
{{- end }}

{{/* What would fail every night, or never run. */}}
{{- define "shop.validateBackup" -}}
{{- $backup := .Values.backup -}}
{{- $upload := $backup.upload -}}
{{- range $key := list "sslMode" "tlsSecret" "clientCertificate" -}}
{{- if and $backup.enabled (ne (toString (index $.Values.order.externalDatabase $key)) (toString (index $.Values.invoice.externalDatabase $key))) -}}
{{- fail (printf "backup.enabled, but order.externalDatabase.%s and invoice.externalDatabase.%s differ: one program opens both databases; say it in the uri of each Secret" $key $key) -}}
{{- end -}}
{{- end -}}
{{- if and (or $upload.command $upload.env) (not $upload.image.repository) -}}
{{- fail "backup.upload.command and env need backup.upload.image.repository: nothing would be uploaded" -}}
{{- else if and $upload.image.repository (not (or $upload.image.tag $upload.image.digest)) -}}
{{- fail "backup.upload.image.repository needs backup.upload.image.tag or digest" -}}
{{- else if and $backup.enabled $backup.networkPolicy $upload.image.repository (not $backup.extraEgress) -}}
{{- fail "backup.upload needs backup.extraEgress, the way to where it uploads: the NetworkPolicy lets it reach the databases only" -}}
{{- end -}}
{{- end }}

{{- define "shop.validateRedis" -}}
{{- $external := .Values.order.externalRedis -}}
{{- $secret := .Values.global.lockRedis.existingSecret | default (tpl $external.existingSecret .Subcharts.order) -}}
{{- $described := or $external.host $external.uri -}}
{{- if .Values.redis.enabled -}}
{{- $own := include "redis.secretName" .Subcharts.redis -}}
{{- if $described -}}
{{- fail "redis.enabled and order.externalRedis.host or .uri exclude each other: switch redis off, or leave them empty" -}}
{{- else if or $external.tls $external.tlsSecret $external.clientCertificate -}}
{{- fail "redis.enabled: the bundled Redis speaks no TLS; order.externalRedis.tls, tlsSecret and clientCertificate are for a server of your own" -}}
{{- else if and (ne $secret $own) .Values.redis.auth.existingSecret -}}
{{- fail (printf "redis.auth.existingSecret is %q, but the services use Secret %q: set global.lockRedis.existingSecret=%s instead, which tells Redis and both services" $own $secret $own) -}}
{{- else if ne $secret $own -}}
{{- fail (printf "redis.enabled, but the services use Secret %q and not %q: leave order.externalRedis and invoice.externalRedis as they are, or switch redis off" $secret $own) -}}
{{- end -}}
{{- else if and (not $described) (eq $secret (include "shop.nameOf" (list . "redis"))) -}}
{{- fail "redis.enabled is false: name the Secret of your lock Redis in global.lockRedis.existingSecret, or your server in order.externalRedis.host and invoice.externalRedis.host (or .uri)" -}}
{{- end -}}
{{- end }}

{{/*
Without the bundled Redis, the way to yours, where networkPolicy.redisTo still says the bundled one: at its port, to any
address. Policies add up.
*/}}
{{- define "shop.lockPolicies" -}}
{{- range $name := list "order" "invoice" }}
{{- $service := index $.Subcharts $name }}
{{- $policy := $service.Values.networkPolicy }}
{{- if and $policy.enabled (not $.Values.redis.enabled) (contains "app.kubernetes.io/name\":\"redis" (toJson $policy.redisTo)) }}
---
{{ include "workload.head" (dict "root" $service "component" "api" "api" "networking.k8s.io/v1" "kind" "NetworkPolicy" "name" (printf "%s-locks" (include "workload.fullname" $service))) }}
spec:
  podSelector:
    matchLabels:
      {{- include "service.ownPods" $service | nindent 6 }}
  policyTypes: [Egress]
  egress:
    {{- include "workload.egress" (dict "root" $ "port" ($.Values.global.lockRedis.port | default $service.Values.externalRedis.port)) | nindent 4 }}
    {{- range $service.Values.externalRedis.morePorts }}
    {{- include "workload.egress" (dict "root" $ "port" .) | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What an uninstallation leaves behind, if anything. */}}
{{- define "shop.kept" -}}
{{- $order := .Values.order -}}
{{- $invoice := .Values.invoice -}}
{{- $kept := list -}}
{{- range $what, $there := dict "the volumes of the databases and of Redis" (or $order.postgres.enabled $invoice.postgres.enabled .Values.redis.enabled) "the Secrets to log in to them" (or $order.postgres.enabled $invoice.postgres.enabled .Values.redis.enabled $order.externalDatabase.host $invoice.externalDatabase.host $order.externalRedis.host $order.externalRedis.uri) -}}
{{- if $there -}}
{{- $kept = append $kept $what -}}
{{- end -}}
{{- end -}}
{{- join " and " ($kept | sortAlpha | reverse) -}}
{{- end }}
