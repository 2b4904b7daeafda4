{{/* The name that the chart of a service or of Redis gives its resources in this release. Takes [context, chart]. */}}
{{- define "shop.nameOf" -}}
{{- include "workload.fullnameOf" (dict "release" (first .).Release.Name "name" (last .) "override" "") -}}
{{- end }}

{{- define "shop.redisSecret" -}}
{{- include "shop.nameOf" (list . "redis") -}}
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
{{- fail "order.externalRedis and invoice.externalRedis differ: the services must share one lock Redis, or the lock protects nothing" -}}
{{- end -}}
{{- $secret := tpl $order.existingSecret . -}}
{{- if and .Values.redis.enabled (ne $secret (include "redis.secretName" .Subcharts.redis)) -}}
{{- fail (printf "redis.enabled, but the services use Secret %q and not %q: leave order.externalRedis and invoice.externalRedis as they are, or switch redis off" $secret (include "redis.secretName" .Subcharts.redis)) -}}
{{- else if and (not .Values.redis.enabled) (eq $secret (include "shop.redisSecret" .)) -}}
{{- fail "redis.enabled is false, so order.externalRedis.existingSecret and invoice.externalRedis.existingSecret must both name the Secret of your lock Redis" -}}
{{- end -}}
{{- $url := printf "http://%s:%v" (include "workload.fullname" .Subcharts.invoice) .Values.invoice.service.port -}}
{{- if ne (tpl .Values.order.invoice.url .) $url -}}
{{- fail (printf "order.invoice.url is %s, but the invoice service answers at %s" (tpl .Values.order.invoice.url .) $url) -}}
{{- end -}}
{{- end }}
