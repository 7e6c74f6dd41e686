"""Which nodes run together: launches, each of which becomes one op record.

Elementwise nodes are gathered into map programs; one that follows a matrix product runs in its
store, unless sums over rows are to stay plain products; the sum of what one computes, as a loss
beside its gradient, is taken on the way; a product whose second factor is summed over its rows, as
for the gradients of weights and bias, takes the sums beside; a softmax cross-entropy, its mean and
its gradient are one record. Only the results that something outside a launch reads are kept in
memory.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dlcore.graph.program import (
    FEWEST_REGISTERS,
    MAX_INSTRUCTIONS,
    Program,
    ProgramTooLarge,
    build_program,
    literal_of,
)
from dlcore.graph.shape import Rows, Shape, broadcast
from dlcore.graph.tensor import Tensor, topological

# Recomputing these where they are needed costs less than storing and reading their result.
_CHEAP = {"greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "negative"}
# A longer chain of them costs more than reading a result in its middle.
_LONGEST_RECOMPUTED = 4

# How many launches behind a producer a consumer's other inputs may come. Looking further costs
# more at every join; such a consumer still joins the last of its producers.
_REACH = 256


@dataclass(eq=False, frozen=True)
class Launch:
    """Nodes that become one op record.

    ``records`` are nodes with an op record of their own (a product, a gather, ...), or several that
    share one (a product and the sums of its second factor, a loss and its gradient), ``body`` the
    nodes of a map program in topological order, ``roots`` those of its results that are kept, the
    first of them a reduce node if there is one. The mean of a loss is a root of its record.
    """

    records: tuple[Tensor, ...] = ()
    body: tuple[Tensor, ...] = ()
    roots: tuple[Tensor, ...] = ()
    space: Shape = ()
    keep_first: bool = True  # whether anything outside reads the result of the first record

    @property
    def reduction(self) -> Tensor | None:
        return self.roots[0] if self.roots and self.roots[0].op.lowering == "reduce" else None

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (*self.records[0 if self.keep_first else 1 :], *self.roots)

    @property
    def storage(self) -> np.dtype:
        """The dtype that a program computes in, which has only one."""
        return (self.body or self.records or self.roots)[-1].storage

    @cached_property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the launch reads: nodes outside it, views too, literals of programs mostly not."""
        if self.stored_literals:
            return tuple(i for i in self._operands if i.op.name != "literal")
        records = {
            operand
            for node in self.records
            for i, operand in enumerate(node.inputs)
            if i not in node.op.numbers
        }
        return tuple(i for i in self._operands if i in records or literal_of(i) is None)

    @cached_property
    def _operands(self) -> tuple[Tensor, ...]:
        members = (*self.records, *self.body, *self.roots)
        operands = dict.fromkeys(operand for node in members for operand in node.inputs)
        inside = set(members)
        return tuple(operand for operand in operands if operand not in inside)

    @cached_property
    def stored_literals(self) -> bool:
        """Whether views of literals are read from memory.

        A reduction takes the extents of its space from what it reads and writes; where that is too
        little, the views have the others.
        """
        if self.reduction is None or self.records or len(self.roots) > 1:
            return False
        shapes = [operand.shape for operand in self._operands if literal_of(operand) is None]
        return self.space not in shapes and broadcast(*shapes) != self.space

    @cached_property
    def program(self) -> Program:
        product = self.records[0] if self.records else None
        return build_program(
            self.body,
            tuple(root for root in self.roots if root is not self.reduction),
            reduction=self.reduction,
            product=product,
            keep_product=self.keep_first,
            stored_literals=self.stored_literals,
        )

    @cached_property
    def fits(self) -> bool:
        """Whether the body is small enough for a program."""
        references = sum(len(node.inputs) for node in self.body)
        if references + len(self.roots) + len(self.records) <= FEWEST_REGISTERS:
            return True  # each register stands for at least one of these
        try:
            return self.program is not None
        except ProgramTooLarge:
            return False


def is_plain_product(launch: Launch) -> bool:
    """Whether it is a product of matrices that no program follows."""
    return bool(
        launch.records
        and launch.records[0].op.name == "matmul"
        and not launch.body
        and launch.records[0].ndim == 2
    )


def _sums_columns(launch: Launch) -> bool:
    """Whether it is the sum over the rows of a matrix that it reads."""
    total = launch.reduction
    return (
        total is not None
        and total.op.name == "sum"
        and not launch.body
        and total.inputs[0].ndim == 2
        and total.attributes["axis"] == (0,)
        and total.storage == total.inputs[0].storage
    )


def _is_mean_of_loss(launch: Launch) -> bool:
    """Whether it is the mean of a softmax cross-entropy, as a number."""
    mean = launch.reduction
    return (
        mean is not None
        and mean.op.name == "mean"
        and mean.shape == ()
        and mean.inputs[0].op.name == "softmax_cross_entropy"
    )


def _sums_rows(node: Tensor) -> bool:
    """Whether it is a product that is a sum over rows, as the gradient of a weight is."""
    return node.op.name == "matmul" and node.ndim == 2 and isinstance(node.inputs[0].shape[1], Rows)


def reads_sum_over_rows(launch: Launch) -> bool:
    """Whether it reads a product that is a sum over rows, in whose store it might run."""
    return any(map(_sums_rows, launch.inputs))


def _follows_product(launch: Launch) -> bool:
    """Whether it reads a product of its own shape, in whose store it could run."""
    return any(i.op.name == "matmul" and i.shape == launch.space for i in launch.inputs)


def _may_sum_columns(launch: Launch) -> bool:
    """Whether it is a product that could take sums of its second factor.

    It has as many rows in every step, one at least. Factors that are views of one matrix may be
    a Gram matrix, of which half is computed.
    """
    if not is_plain_product(launch):
        return False
    product = launch.records[0]
    a, b = product.inputs
    is_fixed = not any(isinstance(extent, Rows) for extent in product.shape)
    return is_fixed and product.shape[0] != 0 and base(a) is not base(b)


def base(node: Tensor) -> Tensor:
    """The node whose memory this one is a view of."""
    while node.op.lowering == "view":
        node = node.inputs[0]
    return node


def fuse(
    outputs: Sequence[Tensor], *, enabled: bool = True, plain_sums: bool = False
) -> list[Launch]:
    """The launches that compute the outputs, in an order that respects what they read.

    ``enabled=False`` gives every node a launch of its own, for comparing fused with unfused plans.
    ``plain_sums=True`` lets no program run in the store of a product that is a sum over rows, as a
    block of rows does not complete it.
    """
    graph = _Graph(outputs)
    joiner = _Joiner(graph, _Grouping(graph, enabled).launches())
    if enabled:
        joiner.merge_softmax_loss()
        joiner.merge_maps()
        joiner.merge_reductions()
        joiner.merge_into_products(plain_sums)
        joiner.merge_column_sums()
        joiner.merge_mean_loss()
    return joiner.ordered()


class _Graph:
    """The nodes that outputs need, in topological order, with those that read them."""

    def __init__(self, outputs: Sequence[Tensor]):
        self.order = topological(outputs)
        self.index = {node: i for i, node in enumerate(self.order)}
        self.base: dict[Tensor, Tensor] = {}
        self.consumers: dict[Tensor, list[Tensor]] = {node: [] for node in self.order}
        # those that read the memory of a node, directly or through views of it
        self.readers: dict[Tensor, list[Tensor]] = {node: [] for node in self.order}
        for node in self.order:
            view = node.op.lowering == "view"
            self.base[node] = self.base[node.inputs[0]] if view else node
            for operand in node.inputs:
                self.consumers[operand].append(node)
                if not view:
                    self.readers[self.base[operand]].append(node)
        self.outputs = {self.base[node] for node in outputs}


class _Grouping:
    """Launches by what is kept in memory: each computes one node that is, from others that are.

    Nodes that cost little may be computed in several launches.
    """

    def __init__(self, graph: _Graph, enabled: bool):
        self.graph = graph
        self.enabled = enabled
        self.recomputed = self._worth_recomputing()

    def launches(self) -> list[Launch]:
        """Launches whose programs fit, producers before consumers."""
        launches = self._groups()
        shared = {node for launch in launches if not launch.fits for node in launch.body}
        if not self.recomputed.isdisjoint(shared):
            # A launch can be cut in parts where no other one computes the same nodes.
            self.recomputed -= shared
            launches = self._groups()
        return [part for launch in launches for part in _cut(launch)]

    def _worth_recomputing(self) -> set[Tensor]:
        length: dict[Tensor, int] = {}
        for node in self.graph.order:
            if node.op.name in _CHEAP:
                before = max(length.get(operand, 0) for operand in node.inputs)
                if before < _LONGEST_RECOMPUTED:
                    length[node] = before + 1
        return set(length)

    def _groups(self) -> list[Launch]:
        kept = self._kept_nodes()
        return [launch for node in self.graph.order if (launch := self._launch(node, kept))]

    def _kept_nodes(self) -> set[Tensor]:
        """Map nodes whose results go to memory, found from the last node to the first."""
        kept: set[Tensor] = set()
        users: dict[Tensor, set[Tensor]] = {}
        for node in reversed(self.graph.order):
            if node.op.lowering != "map":
                continue
            users[node] = set()
            keep = node in self.graph.outputs or not self.enabled
            for consumer in self.graph.consumers[node]:
                if consumer.op.lowering == "reduce" or consumer in kept:
                    users[node].add(consumer)
                elif consumer.op.lowering == "map":
                    users[node] |= users[consumer]
                keep |= consumer.op.lowering in ("view", "record")
                keep |= consumer.storage != node.storage
            keep |= any(_space(root) != node.shape for root in users[node])
            keep |= len(users[node]) > 1 and node not in self.recomputed
            if keep:
                kept.add(node)
        return kept

    def _launch(self, node: Tensor, kept: set[Tensor]) -> Launch | None:
        if node.op.lowering == "record":
            return Launch(records=(node,), space=node.shape)
        if node in kept or node.op.lowering == "reduce":
            return Launch(body=self._body(node, kept), roots=(node,), space=_space(node))
        return None

    def _body(self, root: Tensor, kept: set[Tensor]) -> tuple[Tensor, ...]:
        members: set[Tensor] = set()
        stack = [root]
        while stack:
            node = stack.pop()
            if node in members:
                continue
            if node.op.lowering == "map" and (node is root or node not in kept):
                members.add(node)
                stack.extend(node.inputs)
            elif node is root:
                stack.extend(node.inputs)
        return tuple(sorted(members, key=self.graph.index.__getitem__))


def _space(root: Tensor) -> Shape:
    return root.inputs[0].shape if root.op.lowering == "reduce" else root.shape


def _cut(launch: Launch) -> list[Launch]:
    """The launch as parts that fit: runs of its body, each as long as can be."""
    if launch.fits:
        return [launch]
    last_use = {i: position for position, node in enumerate(launch.body) for i in node.inputs}

    def part(start: int, stop: int) -> Launch:
        body = launch.body[start:stop]
        roots = tuple(node for node in body if last_use.get(node, -1) >= stop)
        return replace(launch, body=body, roots=launch.roots if stop == n else roots)

    n = len(launch.body)
    parts: list[Launch] = []
    start = 0
    while start < n:
        stop = min(start + MAX_INSTRUCTIONS, n)
        if not part(start, stop).fits:
            longer = range(start + 2, stop)  # a single node always fits
            stop = start + 1 + bisect_left(longer, True, key=lambda end: not part(start, end).fits)
        parts.append(part(start, stop))
        start = stop
    return parts


class _Joiner:
    """Joins launches in pairs: the consumer's nodes then run in the producer's launch.

    ``slots`` holds the launches in an order in which each comes after those that it reads, and None
    where one has gone; ``rank`` is the place of each in it. With it, whether one launch needs
    another is found by a look at the few that stand between them.
    """

    def __init__(self, graph: _Graph, launches: Sequence[Launch]):
        self.graph = graph
        self.slots: list[Launch | None] = list(launches)
        self.rank = {launch: i for i, launch in enumerate(launches)}
        self.age = dict(self.rank)
        self.producer = {node: launch for launch in launches for node in launch.outputs}
        self.computing: dict[Tensor, list[Launch]] = defaultdict(list)
        for launch in launches:
            for node in launch.body:
                self.computing[node].append(launch)

    # Which launches to join

    def merge_maps(self) -> None:
        """A map program that reads another's result joins it as a further output."""
        for consumer in list(self.rank):
            if consumer.records or consumer.reduction is not None:
                continue
            for producer in self._map_producers(consumer):
                if self._join(producer, consumer):
                    break

    def merge_reductions(self) -> None:
        """A loss that is the sum of what a map program computes joins it, which gives its gradient.

        A program takes one sum, over all axes: those over some have better places, or none (see
        ``merge_column_sums``). One that the store of a product would take is taken from it only
        where that saves a result.
        """
        for consumer in list(self.rank):
            total = consumer.reduction
            if total is None or len(total.attributes["axis"]) != total.inputs[0].ndim:
                continue
            for producer in self._map_producers(consumer):
                kept = len(self._merged(producer, consumer).roots) - 1
                saves_result = kept < len(producer.roots)
                if (saves_result or not _follows_product(producer)) and self._join(
                    producer, consumer
                ):
                    break

    def _map_producers(self, consumer: Launch) -> Iterator[Launch]:
        """The map programs over the same space, without a reduction, that the consumer reads."""
        for operand in consumer.inputs:
            producer = self.producer.get(operand)
            if (
                producer is not None
                and not producer.records
                and producer.reduction is None
                and producer.space == consumer.space
                and producer.storage == consumer.storage
            ):
                yield producer

    def merge_into_products(self, plain_sums: bool) -> None:
        """A map program that reads a product of its own shape runs in the product's store.

        Of one that reduces, bias and activation do. With ``plain_sums`` none runs in that of a sum
        over rows.
        """
        for product in self.graph.order:
            if product.op.name != "matmul" or product.ndim != 2:
                continue
            if plain_sums and _sums_rows(product):
                continue
            readers = {
                launch
                for consumer in self.graph.consumers[product]
                for launch in self.computing[consumer]
            }
            for consumer in sorted(readers, key=self.age.__getitem__):
                if (
                    consumer.records
                    or consumer.space != product.shape
                    or consumer.storage != product.storage
                ):
                    continue
                if consumer.reduction is not None:
                    self._hand_over(product, consumer)
                elif self._join(self.producer[product], consumer):
                    break

    def merge_column_sums(self) -> None:
        """Sums over the rows of a product's second factor are taken where the product reads it.

        Those that another node reads, if only to copy them to an output, are not where the product
        could come last, as one that updates a weight does: then none reads that either.
        """
        sums: dict[Tensor, list[Launch]] = defaultdict(list)
        for launch in self.rank:
            if _sums_columns(launch):
                sums[launch.roots[0].inputs[0]].append(launch)
        for product in [launch for launch in self.rank if _may_sum_columns(launch)]:
            (node,) = product.records
            totals = sums[node.inputs[1]]
            total = next((t for t in totals if self._may_stand_beside(node, t.roots[0])), None)
            if total is None:
                continue
            producer, consumer = sorted((product, total), key=self.rank.__getitem__)
            ahead = self._needed_ahead(producer, consumer)
            if ahead is not None:
                totals.remove(total)
                merged = replace(product, records=(node, *total.roots))
                self._replace(producer, consumer, merged, ahead)

    def merge_softmax_loss(self) -> None:
        """The loss of the rows and its gradient come from one kernel."""
        gradients: dict[tuple[Tensor, ...], dict[Tensor, None]] = defaultdict(dict)
        for node in self.graph.order:
            if node.op.name == "softmax_cross_entropy_gradient":
                gradients[node.inputs[:2]][node] = None
        for loss in self.graph.order:
            if loss.op.name != "softmax_cross_entropy":
                continue
            for node in gradients[loss.inputs]:
                producer, consumer = self.producer[loss], self.producer[node]
                ahead = self._needed_ahead(producer, consumer)
                if ahead is not None:
                    merged = replace(producer, records=(loss, node))
                    self._replace(producer, consumer, merged, ahead)
                    del gradients[loss.inputs][node]
                    break

    def merge_mean_loss(self) -> None:
        """The mean of a softmax cross-entropy is computed by the record that has its rows."""
        for mean in [launch for launch in self.rank if _is_mean_of_loss(launch)]:
            loss = mean.roots[0].inputs[0]
            producer = self.producer[loss]
            ahead = self._needed_ahead(producer, mean)
            if ahead is not None and not producer.roots:
                is_read = loss in self.graph.outputs or len(self.graph.readers[loss]) > 1
                merged = replace(producer, roots=mean.roots, keep_first=is_read)
                self._replace(producer, mean, merged, ahead)

    def _may_stand_beside(self, product: Tensor, total: Tensor) -> bool:
        """Whether a product may give a sum over the rows of its second factor, too.

        One that reads the sum may not, which ``_needed_ahead`` does not tell: a consumer may read
        its producer. Nor may one that nobody reads, if the sum is: it may come last.
        """
        readers = set(self.graph.readers[total])
        return not readers or (product not in readers and bool(self.graph.readers[product]))

    def _hand_over(self, product: Tensor, consumer: Launch) -> None:
        """What the consumer does first to the product, alone or with repeated rows, goes there."""
        left = dict.fromkeys(consumer.body)
        chain: list[Tensor] = []
        node = product
        while len(self.graph.consumers[node]) == 1 and node not in self.graph.outputs:
            (reader,) = self.graph.consumers[node]
            others = [operand for operand in reader.inputs if operand is not node]
            if reader not in left or not all(self._is_at_hand(product, i) for i in others):
                break
            del left[reader]
            chain.append(reader)
            node = reader
        if not chain or len(self.computing[node]) > 1:
            return
        producer = self.producer[product]
        body, roots = tuple(chain), tuple(root for root in consumer.roots if root is not node)
        self._put(consumer, replace(consumer, body=tuple(left), roots=roots))
        self._put(producer, replace(producer, body=body, roots=(node,), keep_first=False))

    def _is_at_hand(self, product: Tensor, operand: Tensor) -> bool:
        """Whether the operand is repeated along an axis, and there before the product."""
        made = self.producer.get(self.graph.base[operand])
        is_early = made is None or self.rank[made] < self.rank[self.producer[product]]
        return operand.shape != product.shape and is_early

    # Whether they can be joined

    def _join(self, producer: Launch, consumer: Launch) -> bool:
        """Joins them, unless the consumer needs the producer otherwise too, or they do not fit."""
        if producer.outputs[0].storage != consumer.outputs[0].storage:
            return False  # a program computes in one dtype
        ahead = self._needed_ahead(producer, consumer)
        if ahead is None:
            return False
        merged = self._merged(producer, consumer)
        if merged.fits:
            self._replace(producer, consumer, merged, ahead)
        return merged.fits

    def _needed_ahead(self, producer: Launch, consumer: Launch) -> list[int] | None:
        """Ranks of the launches behind the producer that the consumer needs, in order.

        None where one of them needs the producer, or where they reach too far.
        """
        if any(self._is_view_of(operand, producer) for operand in consumer.inputs):
            return None
        first = self.rank[producer]
        pending = [rank for rank in self._source_ranks(consumer) if rank > first]
        if max(pending, default=first) - first > _REACH:
            return None
        found = set(pending)
        heapq.heapify(pending)
        while pending:
            # the nearest to the producer comes first: it is the likeliest to need it
            launch = self.slots[heapq.heappop(pending)]
            assert launch is not None
            for rank in self._source_ranks(launch):
                if rank == first:
                    return None
                if rank > first and rank not in found:
                    found.add(rank)
                    heapq.heappush(pending, rank)
        return sorted(found)

    def _source_ranks(self, launch: Launch) -> list[int]:
        bases = (self.graph.base[operand] for operand in launch.inputs)
        return [self.rank[self.producer[node]] for node in bases if node in self.producer]

    def _is_view_of(self, operand: Tensor, producer: Launch) -> bool:
        memory = self.graph.base[operand]
        return memory is not operand and self.producer.get(memory) is producer

    def _merged(self, producer: Launch, consumer: Launch) -> Launch:
        body = {*producer.body, *consumer.body}
        inside = body if consumer.reduction is None else {*body, consumer.reduction}

        def needed_outside(node: Tensor) -> bool:
            """Whether the node is an output, or one that the launch does not hold reads it."""
            return node in self.graph.outputs or any(
                reader not in inside
                or any(other not in (producer, consumer) for other in self.computing[reader])
                for reader in self.graph.readers[node]
            )

        roots = (*producer.roots, *consumer.roots)
        if consumer.reduction is not None:
            roots = (consumer.reduction, *producer.roots)
        return replace(
            producer,
            body=tuple(sorted(body, key=self.graph.index.__getitem__)),
            roots=tuple(root for root in roots if needed_outside(root)),
            keep_first=not producer.records or needed_outside(producer.records[0]),
        )

    # Joining them

    def _replace(
        self, producer: Launch, consumer: Launch, merged: Launch, ahead: Sequence[int]
    ) -> None:
        """Puts the merged launch in the place of the producer, behind what is to go ahead."""
        position = self.rank[producer]
        self._remove(consumer)
        self._put(producer, merged)
        if ahead:
            self._move_ahead(position, ahead)

    def _remove(self, launch: Launch) -> None:
        self.slots[self.rank.pop(launch)] = None
        for node in launch.outputs:
            del self.producer[node]
        for node in launch.body:
            self.computing[node].remove(launch)

    def _put(self, launch: Launch, other: Launch) -> None:
        """Puts another launch in the place of one."""
        position = self.rank[launch]
        self._remove(launch)
        self.slots[position] = other
        self.rank[other] = position
        self.age[other] = self.age[launch]
        self.producer.update(dict.fromkeys(other.outputs, other))
        for node in other.body:
            self.computing[node].append(other)

    def _move_ahead(self, position: int, ahead: Sequence[int]) -> None:
        behind = sorted({*range(position, ahead[-1] + 1)}.difference(ahead))
        moved = [self.slots[rank] for rank in (*ahead, *behind)]
        for rank, launch in enumerate(moved, position):
            self.slots[rank] = launch
            if launch is not None:
                self.rank[launch] = rank

    # Results

    def ordered(self) -> list[Launch]:
        """Topological order, earliest nodes first among those that are ready."""
        launches = sorted(self.rank, key=self.age.__getitem__)
        readers: dict[int, list[Launch]] = defaultdict(list)
        missing: dict[Launch, int] = {}
        for launch in launches:
            sources = set(self._source_ranks(launch))
            missing[launch] = len(sources)
            for rank in sources:
                readers[rank].append(launch)
        ready = [self.age[launch] for launch in launches if missing[launch] == 0]
        by_age = {self.age[launch]: launch for launch in launches}
        result: list[Launch] = []
        while ready:
            launch = by_age[heapq.heappop(ready)]
            result.append(launch)
            for reader in readers[self.rank[launch]]:
                missing[reader] -= 1
                if missing[reader] == 0:
                    heapq.heappush(ready, self.age[reader])
        assert len(result) == len(launches), "fusion made a cycle"
        return result
