"""Which nodes run together: launches, each of which becomes one op record.

Elementwise nodes are gathered into map programs; a program that follows a matrix product runs in
its store; the rows of a softmax cross-entropy and their gradient come from one kernel. Only the
results that something outside a launch reads are kept in memory.
"""

from __future__ import annotations

import heapq
import operator
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dlcore.graph.program import Program, ProgramTooLarge, build_program, literal_of
from dlcore.graph.shape import Shape
from dlcore.graph.tensor import Tensor, topological

# Recomputing these where they are needed costs less than storing and reading their result.
_CHEAP = {"greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "negative"}


@dataclass(eq=False)
class Launch:
    """Nodes that become one op record.

    ``records`` are nodes with an op record of their own (a product, a gather, ...), ``body`` the
    nodes of a map program in topological order, ``roots`` those of its results that are kept, or
    the one reduce node that ends it.
    """

    records: list[Tensor] = field(default_factory=list)
    body: list[Tensor] = field(default_factory=list)
    roots: list[Tensor] = field(default_factory=list)
    space: Shape = ()
    keep_product: bool = True

    @property
    def reduction(self) -> Tensor | None:
        return self.roots[0] if self.roots and self.roots[0].op.lowering == "reduce" else None

    def members(self) -> list[Tensor]:
        return [*self.records, *self.body, *self.roots]

    def outputs(self) -> list[Tensor]:
        records = self.records if self.keep_product else []
        return [*records, *self.roots]

    def inputs(self) -> list[Tensor]:
        """What the launch reads: nodes outside it, views too, literals of programs not."""
        inside, records = set(self.members()), set(self.records)
        found: dict[Tensor, None] = {}
        for node in self.members():
            for operand in node.inputs:
                literal = node not in records and literal_of(operand) is not None
                if operand not in inside and not literal:
                    found[operand] = None
        return list(found)

    def program(self) -> Program:
        product = self.records[0] if self.records else None
        return build_program(
            self.body,
            self.roots,
            reduction=self.reduction,
            product=product,
            keep_product=self.keep_product,
        )


def base(node: Tensor) -> Tensor:
    """The node whose memory this one is a view of."""
    while node.op.lowering == "view":
        node = node.inputs[0]
    return node


def fuse(outputs: Sequence[Tensor], *, enabled: bool = True) -> list[Launch]:
    """The launches that compute the outputs, in an order that respects what they read.

    ``enabled=False`` gives every node a launch of its own, for comparing fused with unfused plans.
    """
    split: set[Tensor] = set()
    while True:
        fuser = _Fuser(outputs, split, enabled)
        too_large = fuser.too_large()
        if too_large is None:
            return fuser.ordered()
        roots = set(too_large.roots)
        candidates = [node for node in too_large.body if node not in roots]
        split.add(candidates[len(candidates) // 2])


class _Fuser:
    def __init__(self, outputs: Sequence[Tensor], split: set[Tensor], enabled: bool):
        self.order = topological(outputs)
        self.index = {node: i for i, node in enumerate(self.order)}
        self.outputs = set(outputs)
        self.consumers: dict[Tensor, list[Tensor]] = defaultdict(list)
        for node in self.order:
            for operand in node.inputs:
                self.consumers[operand].append(node)
        self.kept = self._kept_nodes(split, enabled)
        self.producer: dict[Tensor, Launch] = {}
        self.launches = [launch for node in self.order if (launch := self._launch(node))]
        if enabled:
            self._merge_maps()
            self._merge_into_products()
            self._merge_softmax_loss()

    # Grouping

    def _kept_nodes(self, split: set[Tensor], enabled: bool) -> set[Tensor]:
        """Map nodes whose results go to memory, found from the last node to the first."""
        kept: set[Tensor] = set()
        users: dict[Tensor, set[Tensor]] = {}
        for node in reversed(self.order):
            if node.op.lowering != "map":
                continue
            users[node] = set()
            keep = node in self.outputs or node in split or not enabled
            for consumer in self.consumers[node]:
                if consumer.op.lowering == "reduce" or consumer in kept:
                    users[node].add(consumer)
                elif consumer.op.lowering == "map":
                    users[node] |= users[consumer]
                keep |= consumer.op.lowering in ("view", "record")
                keep |= consumer.storage != node.storage
            keep |= any(_space(root) != node.shape for root in users[node])
            keep |= len(users[node]) > 1 and node.op.name not in _CHEAP
            if keep:
                kept.add(node)
        return kept

    def _launch(self, node: Tensor) -> Launch | None:
        if node.op.lowering == "record":
            launch = Launch(records=[node], space=node.shape)
        elif node in self.kept or node.op.lowering == "reduce":
            launch = Launch(body=self._body(node), roots=[node], space=_space(node))
        else:
            return None
        for output in launch.outputs():
            self.producer[output] = launch
        return launch

    def _body(self, root: Tensor) -> list[Tensor]:
        members: set[Tensor] = set()
        stack = [root]
        while stack:
            node = stack.pop()
            if node in members:
                continue
            if node.op.lowering == "map" and (node is root or node not in self.kept):
                members.add(node)
                stack.extend(node.inputs)
            elif node is root:
                stack.extend(node.inputs)
        return sorted(members, key=self.index.__getitem__)

    # Merging

    def _merge_maps(self) -> None:
        """A map program that reads another's result joins it as a further output."""
        for consumer in list(self.launches):
            if consumer.records or consumer.reduction is not None:
                continue
            for operand in consumer.inputs():
                producer = self.producer.get(operand)
                if (
                    producer is None
                    or producer.records
                    or producer.reduction is not None
                    or producer.space != consumer.space
                    or not self._may_join(consumer, producer)
                ):
                    continue
                if self._join(producer, consumer):
                    break

    def _merge_into_products(self) -> None:
        """A map program that reads a product of its own shape runs in the product's store."""
        for producer in list(self.launches):
            if not producer.records or producer.records[0].op.name != "matmul":
                continue
            product = producer.records[0]
            if product.ndim != 2:
                continue
            for consumer in self._readers(product):
                if (
                    not consumer.records
                    and consumer.reduction is None
                    and consumer.space == product.shape
                    and product in set(consumer.inputs())
                    and self._may_join(consumer, producer)
                    and self._join(producer, consumer)
                ):
                    break

    def _merge_softmax_loss(self) -> None:
        for loss in list(self.launches):
            if not loss.records or loss.records[0].op.name != "softmax_cross_entropy":
                continue
            for other in list(self.launches):
                if (
                    other.records
                    and other.records[0].op.name == "softmax_cross_entropy_gradient"
                    and all(map(operator.is_, other.records[0].inputs, loss.records[0].inputs))
                    and not self._reads_from(other.records[0].inputs[2], loss)
                ):
                    loss.records.append(other.records[0])
                    self.producer[other.records[0]] = loss
                    self.launches.remove(other)
                    break

    def _readers(self, node: Tensor) -> list[Launch]:
        return [launch for launch in self.launches if node in set(launch.inputs())]

    def _may_join(self, consumer: Launch, producer: Launch) -> bool:
        """Whether what else the consumer reads is there before the producer runs."""
        return all(
            self.producer.get(operand) is producer or not self._reads_from(operand, producer)
            for operand in consumer.inputs()
        )

    def _reads_from(self, operand: Tensor, target: Launch) -> bool:
        """Whether computing the operand needs the target launch."""
        stack = [operand]
        seen: set[Launch] = set()
        while stack:
            launch = self.producer.get(base(stack.pop()))
            if launch is target:
                return True
            if launch is not None and launch not in seen:
                seen.add(launch)
                stack.extend(launch.inputs())
        return False

    def _join(self, producer: Launch, consumer: Launch) -> bool:
        merged = Launch(
            records=producer.records,
            body=sorted({*producer.body, *consumer.body}, key=self.index.__getitem__),
            roots=[*producer.roots, *consumer.roots],
            space=producer.space,
        )
        inside = set(merged.body)
        merged.roots = [r for r in merged.roots if self._needed_outside(r, inside)]
        if merged.records:
            merged.keep_product = self._needed_outside(merged.records[0], inside)
        if not _fits(merged):
            return False
        producer.body, producer.roots = merged.body, merged.roots
        producer.keep_product = merged.keep_product
        for output in producer.outputs():
            self.producer[output] = producer
        self.launches.remove(consumer)
        return True

    def _needed_outside(self, node: Tensor, inside: set[Tensor]) -> bool:
        """Whether the node is an output, or a launch without these nodes reads it."""
        if node in self.outputs:
            return True
        views = [node]
        for view in views:
            for consumer in self.consumers[view]:
                if consumer.op.lowering == "view":
                    views.append(consumer)
                elif consumer not in inside or self._computed_elsewhere(consumer, inside):
                    return True
        return False

    def _computed_elsewhere(self, node: Tensor, inside: set[Tensor]) -> bool:
        """Whether a cheap node is computed again in another launch."""
        return any(
            node in set(launch.body) and not inside.issuperset(launch.body) for launch in self.launches
        )

    # Results

    def too_large(self) -> Launch | None:
        return next((launch for launch in self.launches if not _fits(launch)), None)

    def ordered(self) -> list[Launch]:
        """Topological order, earliest nodes first among those that are ready."""
        position = {launch: i for i, launch in enumerate(self.launches)}
        readers: dict[Launch, set[Launch]] = defaultdict(set)
        missing: dict[Launch, int] = {}
        for launch in self.launches:
            sources = set(self._sources(launch.inputs())) - {launch}
            missing[launch] = len(sources)
            for source in sources:
                readers[source].add(launch)
        ready = [position[launch] for launch in self.launches if missing[launch] == 0]
        heapq.heapify(ready)
        result = []
        while ready:
            launch = self.launches[heapq.heappop(ready)]
            result.append(launch)
            for reader in readers[launch]:
                missing[reader] -= 1
                if missing[reader] == 0:
                    heapq.heappush(ready, position[reader])
        assert len(result) == len(self.launches), "fusion made a cycle"
        return result

    def _sources(self, nodes: Iterable[Tensor]) -> Iterable[Launch]:
        return (self.producer[base(n)] for n in nodes if base(n) in self.producer)


def _space(root: Tensor) -> Shape:
    return root.inputs[0].shape if root.op.lowering == "reduce" else root.shape


def _fits(launch: Launch) -> bool:
    if not launch.body:
        return True
    try:
        launch.program()
    except ProgramTooLarge:
        return False
    return True
