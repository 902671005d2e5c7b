// SPDX-License-Identifier: Apache-2.0
/** What of the Prometheus operator an API server has to know to take what the chart renders: that there are such kinds. */
export const MONITORING = ['ServiceMonitor', 'PodMonitor', 'PrometheusRule'].map((kind) => {
  const group = 'monitoring.coreos.com';
  const singular = kind.toLowerCase();
  const plural = `${singular}s`;
  const openAPIV3Schema = {
    type: 'object',
    properties: { spec: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
  };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: { kind, plural, singular, listKind: `${kind}List` },
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema } }],
    },
  };
});
