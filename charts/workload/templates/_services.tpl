{{/* The order and the invoice service: the same resources, told apart by their charts' names and values. */}}

{{/* Refuses values that contradict each other, and names them. */}}
{{- define "service.validate" -}}
{{- $values := .Values -}}
{{- range $bundled, $external := dict "postgres" "externalDatabase" "redis" "externalRedis" -}}
{{- $enabled := (index $values $bundled).enabled -}}
{{- $other := index $values $external -}}
{{- $described := or $other.host $other.uri -}}
{{- $given := or $other.existingSecret $described (and (eq $bundled "redis") (not $enabled) $values.global.lockRedis.existingSecret) -}}
{{- if and $enabled $given -}}
{{- fail (printf "%s.enabled and %s exclude each other: switch the bundled one off, or leave %s.existingSecret and %s.host empty" $bundled $external $external $external) -}}
{{- else if not (or $enabled $given) -}}
{{- fail (printf "%s.enabled is false, so %s.existingSecret or %s.host is needed" $bundled $external $external) -}}
{{- else if and $other.host $other.uri -}}
{{- fail (printf "%s.host and %s.uri exclude each other: the URI says where the servers are" $external $external) -}}
{{- else if and (tpl $other.existingSecret $) $other.uri -}}
{{- fail (printf "%s.existingSecret and %s.uri exclude each other: the Secret says where the servers are, so leave one of them empty" $external $external) -}}
{{- else if and (tpl $other.existingSecret $) $other.host -}}
{{- fail (printf "%s.existingSecret and %s.host exclude each other: the Secret says where the server is, so leave one of them empty" $external $external) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.migrations.hook (not .Values.externalDatabase.existingSecret) -}}
{{- fail "migrations.hook needs externalDatabase.existingSecret: a hook runs before this release's own database and Secrets exist" -}}
{{- end -}}
{{- $stop := .Values.shutdown -}}
{{- $needed := add $stop.preStopSeconds $stop.drainSeconds $stop.requestSeconds $stop.closeSeconds -}}
{{- if lt (int64 .Values.terminationGracePeriodSeconds) (int64 $needed) -}}
{{- fail (printf "terminationGracePeriodSeconds is %v, but preStopSeconds + drainSeconds + requestSeconds + closeSeconds of shutdown need %v" .Values.terminationGracePeriodSeconds $needed) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) -}}
{{- fail "autoscaling.maxReplicas is less than autoscaling.minReplicas" -}}
{{- end -}}
{{- include "service.validateAuth" . -}}
{{- include "service.validateLimits" . -}}
{{- include "service.validateService" . -}}
{{- include "service.validateTls" . -}}
{{- end }}

{{/* A limit inside another has to be the shorter one: the services refuse to start otherwise. */}}
{{- define "service.validateLimits" -}}
{{- $config := .Values.config -}}
{{- range $name := list "statementTimeoutSeconds" "invoiceTimeoutSeconds" "lockWaitSeconds" -}}
{{- if hasKey $config $name -}}
{{- if and (eq $.Chart.Name "order") (ge (float64 (index $config $name)) (float64 $config.requestTimeoutSeconds)) -}}
{{- fail (printf "config.%s is %v: it must be less than config.requestTimeoutSeconds, which is %v" $name (index $config $name) $config.requestTimeoutSeconds) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "service.validateService" -}}
{{- $service := .Values.service -}}
{{- if and (eq $service.type "ClusterIP") (or $service.nodePort $service.externalTrafficPolicy $service.loadBalancerClass $service.loadBalancerSourceRanges) -}}
{{- fail "service.nodePort, externalTrafficPolicy, loadBalancerClass and loadBalancerSourceRanges are for service.type NodePort or LoadBalancer" -}}
{{- end -}}
{{- if eq (int64 $service.port) (int64 .Values.metrics.port) -}}
{{- fail (printf "service.port and metrics.port are both %v: the service listens on two ports" $service.port) -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled needs httpRoute.parentRefs: the Gateway that the route belongs to" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled needs ingress.hosts" -}}
{{- end -}}
{{- end }}

{{/*
What would be encrypted less than it seems, or not at all. (A Secret of the user's own may say in its uri what the values do
not, so that only what the chart writes is judged.)
*/}}
{{- define "service.validateTls" -}}
{{- range $bundled, $external := dict "postgres" "externalDatabase" "redis" "externalRedis" -}}
{{- $other := index $.Values $external -}}
{{- if and (index $.Values $bundled).enabled (or $other.sslMode $other.tls $other.tlsSecret $other.clientCertificate) -}}
{{- fail (printf "%s.enabled: the bundled server speaks no TLS; the keys of %s for it are for a server of your own" $bundled $external) -}}
{{- else if and $other.clientCertificate (not $other.tlsSecret) -}}
{{- fail (printf "%s.clientCertificate needs %s.tlsSecret, which holds the certificate" $external $external) -}}
{{- end -}}
{{- end -}}
{{- $database := .Values.externalDatabase -}}
{{- $redis := .Values.externalRedis -}}
{{- if and $redis.host $redis.tlsSecret (not $redis.tls) -}}
{{- fail "externalRedis.tlsSecret needs externalRedis.tls: the connection would not be encrypted" -}}
{{- else if and $database.host $database.tlsSecret (not (has $database.sslMode (list "require" "verify-ca" "verify-full"))) -}}
{{- fail "externalDatabase.tlsSecret needs externalDatabase.sslMode verify-full (verify-ca, require): the server would not be verified" -}}
{{- else if and $database.host (hasPrefix "verify-" $database.sslMode) (not $database.tlsSecret) (not (include "service.givesVariable" (list . "PGSSLROOTCERT"))) -}}
{{- fail (printf "externalDatabase.sslMode %s needs externalDatabase.tlsSecret: nobody to trust is known" $database.sslMode) -}}
{{- end -}}
{{- end }}

{{/* Something where extraEnv sets a variable. Takes [context, name]. */}}
{{- define "service.givesVariable" -}}
{{- range (first .).Values.extraEnv -}}
{{- if eq .name (last $) -}}yes{{- end -}}
{{- end -}}
{{- end }}

{{/*
The path below which clients reach the service: the one that is set, else the one at which an Ingress or HTTPRoute has it.
An Ingress with paths as its controller wants them (ImplementationSpecific) is not read.
*/}}
{{- define "service.rootPath" -}}
{{- $paths := list -}}
{{- if and .Values.httpRoute.enabled (ne .Values.httpRoute.path "/") -}}
{{- $paths = append $paths (trimSuffix "/" .Values.httpRoute.path) -}}
{{- end -}}
{{- if .Values.ingress.enabled -}}
{{- range .Values.ingress.hosts -}}
{{- if and (ne (.path | default "/") "/") (ne (.pathType | default "Prefix") "ImplementationSpecific") -}}
{{- $paths = append $paths (trimSuffix "/" .path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $paths = uniq $paths -}}
{{- $given := .Values.config.rootPath -}}
{{- if $given -}}
{{- range $paths -}}
{{- if not (hasSuffix . (trimSuffix "/" $given)) -}}
{{- fail (printf "config.rootPath is %s, but clients reach the service at %s (ingress.hosts, httpRoute.path): it is to end with that" $given .) -}}
{{- end -}}
{{- end -}}
{{- $given -}}
{{- else if gt (len $paths) 1 -}}
{{- fail (printf "ingress.hosts and httpRoute.path have the paths %s: a service knows one; set config.rootPath" (join ", " $paths)) -}}
{{- else -}}
{{- join "" $paths -}}
{{- end -}}
{{- end }}

{{/* Which Secret says how to reach the database. */}}
{{- define "service.databaseSecret" -}}
{{- if .Values.postgres.enabled -}}
{{- include "postgres.secretName" .Subcharts.postgres -}}
{{- else -}}
{{- tpl .Values.externalDatabase.existingSecret . | default (printf "%s-database" (include "workload.fullname" .)) -}}
{{- end -}}
{{- end }}

{{/* Which Secret says how to reach the lock Redis. */}}
{{- define "service.redisSecret" -}}
{{- if .Values.redis.enabled -}}
{{- include "redis.secretName" .Subcharts.redis -}}
{{- else if or .Values.externalRedis.host .Values.externalRedis.uri -}}
{{- printf "%s-redis" (include "workload.fullname" .) -}}
{{- else -}}
{{- .Values.global.lockRedis.existingSecret | default (tpl .Values.externalRedis.existingSecret .) -}}
{{- end -}}
{{- end }}

{{- define "service.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "workload.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{/* Where the services listen: on every address, of both families where the Service has both. */}}
{{- define "service.host" -}}
{{- $service := .Values.service -}}
{{- ternary "::" "0.0.0.0" (or (has "IPv6" $service.ipFamilies) (hasSuffix "DualStack" $service.ipFamilyPolicy)) -}}
{{- end }}

{{/* The settings of the service as environment variables: config.logLevel becomes ORDER_LOG_LEVEL. */}}
{{- define "service.ownEnv" -}}
{{- $prefix := upper .Chart.Name -}}
{{- $given := dict "rootPath" (include "service.rootPath" .) "host" (include "service.host" .) "port" .Values.service.port "metricsPort" .Values.metrics.port "drainSeconds" .Values.shutdown.drainSeconds "shutdownSeconds" .Values.shutdown.requestSeconds -}}
{{- $settings := merge $given (include (printf "%s.settings" .Chart.Name) . | fromYaml) .Values.config -}}
{{ include "workload.secretEnv" (dict "env" (printf "%s_DATABASE_URL" $prefix) "secret" (include "service.databaseSecret" .) "key" "uri") }}
{{ include "workload.secretEnv" (dict "env" (printf "%s_REDIS_URL" $prefix) "secret" (include "service.redisSecret" .) "key" "uri") }}
{{- range $key, $value := $settings }}
- name: {{ printf "%s_%s" $prefix (snakecase $key | upper) | quote }}
  value: {{ $value | toJson | trimAll "\"" | quote }}
{{- end }}
{{- include "service.databaseTlsEnv" . }}
{{- include "service.authEnv" . }}
{{- include "service.tracingEnv" . }}
{{- end }}

{{/* Who may call, and what this service shows the other one. */}}
{{- define "service.authEnv" -}}
{{- $prefix := upper .Chart.Name -}}
{{- $auth := .Values.auth -}}
{{- if $auth.required }}
- {name: {{ $prefix }}_AUTH, value: required}
{{- if $auth.existingSecret }}
- {name: {{ $prefix }}_AUTH_TOKENS_FILE, value: {{ include "service.secretPath" "auth-tokens" }}/tokens}
{{- end }}
{{- if $auth.oidc.issuer }}
- {name: {{ $prefix }}_AUTH_OIDC_ISSUER, value: {{ $auth.oidc.issuer | quote }}}
- {name: {{ $prefix }}_AUTH_OIDC_AUDIENCE, value: {{ $auth.oidc.audience | quote }}}
- {name: {{ $prefix }}_AUTH_OIDC_JWKS_URL, value: {{ $auth.oidc.jwksUrl | quote }}}
- {name: {{ $prefix }}_AUTH_OIDC_ALGORITHMS, value: {{ $auth.oidc.algorithms | quote }}}
{{- end }}
{{- end }}
{{- if (.Values.invoice | default dict).tokenSecret }}
- {name: {{ $prefix }}_INVOICE_TOKEN_FILE, value: {{ include "service.secretPath" "invoice-token" }}/token}
{{- end }}
{{- end }}

{{- define "service.secretPath" -}}
/etc/shop/{{ . }}
{{- end }}

{{/* The Secrets that only the serving pods see, by the names of their volumes. */}}
{{- define "service.tokenSecrets" -}}
{{- if and .Values.auth.required .Values.auth.existingSecret }}
auth-tokens: {{ tpl .Values.auth.existingSecret . | quote }}
{{- end }}
{{- with (.Values.invoice | default dict).tokenSecret }}
invoice-token: {{ tpl . $ | quote }}
{{- end }}
{{- end }}

{{- define "service.validateAuth" -}}
{{- $auth := .Values.auth -}}
{{- $oidc := $auth.oidc -}}
{{- if and $auth.required (not (or $auth.existingSecret $oidc.issuer)) -}}
{{- fail "auth.required needs auth.existingSecret or auth.oidc.issuer: nobody could call the service" -}}
{{- else if and (not $auth.required) (or $auth.existingSecret $oidc.issuer $oidc.audience $oidc.jwksUrl) -}}
{{- fail "auth.required is false, and yet it is set who may call: set it to true, or leave auth.existingSecret and auth.oidc empty" -}}
{{- else if and (or $oidc.issuer $oidc.audience $oidc.jwksUrl) (not (and $oidc.issuer $oidc.audience $oidc.jwksUrl)) -}}
{{- fail "auth.oidc needs all of issuer, audience and jwksUrl" -}}
{{- end -}}
{{- end }}

{{- define "service.tracingEnv" -}}
{{- if .Values.tracing.endpoint }}
- name: POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
- name: OTEL_SERVICE_NAME
  value: {{ .Chart.Name | quote }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: service.namespace=shop,service.version={{ .Chart.AppVersion }},service.instance.id=$(POD_NAME),k8s.pod.name=$(POD_NAME),k8s.namespace.name={{ .Release.Namespace }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .Values.tracing.endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .Values.tracing.protocol | quote }}
- name: OTEL_TRACES_SAMPLER
  value: {{ .Values.tracing.sampler | quote }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .Values.tracing.samplerArgument | quote }}
{{- end }}
{{- end }}

{{/*
The chart's variables and the user's own; of one that both name, the user's, in the chart's place: what refers to it, as
$(POD_NAME), comes after it.
*/}}
{{- define "service.env" -}}
{{- include "service.envOf" (list . (include "service.ownEnv" .)) -}}
{{- end }}

{{/* Takes [context, the chart's variables]. */}}
{{- define "service.envOf" -}}
{{- $theirs := dict -}}
{{- range (first .).Values.extraEnv -}}
{{- $_ := set $theirs .name . -}}
{{- end -}}
{{- $env := list -}}
{{- range last . | fromYamlArray -}}
{{- $env = append $env (get $theirs .name | default .) -}}
{{- $_ := unset $theirs .name -}}
{{- end -}}
{{- range (first .).Values.extraEnv -}}
{{- with get $theirs .name -}}
{{- $env = append $env . -}}
{{- $_ := unset $theirs .name -}}
{{- end -}}
{{- end -}}
{{- $env | toYaml -}}
{{- end }}

{{/* The variables by which libpq finds certificates: for every program that opens the database. */}}
{{- define "service.databaseTlsEnv" -}}
{{- $external := .Values.externalDatabase -}}
{{- with $external.sslMode }}
- {name: PGSSLMODE, value: {{ . | quote }}}
{{- end }}
{{- if $external.tlsSecret }}
- {name: PGSSLROOTCERT, value: {{ include "service.tlsPath" "database" }}/ca.crt}
{{- if $external.clientCertificate }}
- {name: PGSSLCERT, value: {{ include "service.tlsPath" "database" }}/tls.crt}
- {name: PGSSLKEY, value: {{ include "service.tlsPath" "database" }}/tls.key}
{{- end }}
{{- end }}
{{- end }}

{{- define "service.tlsPath" -}}
/etc/shop/{{ . }}-tls
{{- end }}

{{/* The Secrets for external servers that the values describe: <name>-database and <name>-redis. */}}
{{- define "service.connections" -}}
{{- range $suffix, $scheme := dict "database" "postgresql" "redis" "redis" }}
{{- $external := index $.Values (ternary "externalRedis" "externalDatabase" (eq $suffix "redis")) }}
{{- if $external.host }}
---
{{ include "workload.connectionSecret" (dict "root" $ "component" "api" "name" (printf "%s-%s" (include "workload.fullname" $) $suffix) "scheme" (ternary "rediss" $scheme (eq true $external.tls)) "host" $external.host "port" $external.port "username" $external.username "given" $external.password "database" $external.database "query" (ternary (include "service.redisQuery" $) "" (eq $suffix "redis"))) }}
{{- end }}
{{- end }}
{{- with .Values.externalRedis.uri }}
---
{{ include "workload.head" (dict "root" $ "component" "api" "api" "v1" "kind" "Secret" "name" (printf "%s-redis" (include "workload.fullname" $)) "annotations" (dict "helm.sh/resource-policy" "keep")) }}
type: Opaque
data:
  uri: {{ . | b64enc | quote }}
{{- end }}
{{- end }}

{{/* Redis clients find certificates by the URI alone. */}}
{{- define "service.redisQuery" -}}
{{- $external := .Values.externalRedis -}}
{{- $path := include "service.tlsPath" "redis" -}}
{{- if $external.tlsSecret -}}
ssl_ca_certs={{ $path }}/ca.crt
{{- if $external.clientCertificate -}}
&ssl_certfile={{ $path }}/tls.crt&ssl_keyfile={{ $path }}/tls.key
{{- end -}}
{{- end -}}
{{- end }}
